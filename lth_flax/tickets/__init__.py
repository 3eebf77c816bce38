"""A ticket: saved and loaded, made smaller, taken to other frameworks, asked for an answer."""

from lth_flax.tickets.compaction import compact
from lth_flax.tickets.ticket import Ticket, load_ticket, save_ticket

__all__ = ["Ticket", "compact", "load_ticket", "save_ticket"]
