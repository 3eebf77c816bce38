"""Which backend JAX runs on, and why."""

import os
import platform as host
from pathlib import Path

import jax

from lth_flax.errors import UserError

PLATFORMS = {"cpu": "cpu", "cuda": "cuda", "metal": "METAL", "mps": "mps"}
"""`--platform` -> what JAX calls it."""

EXTRAS = ("cuda", "metal", "mps")


def choose(wanted: str) -> None:
    """Tells JAX before it starts: `wanted` is `auto` or one of `PLATFORMS`.

    The CPU stays beside an accelerator: networks and masks are made there.
    """
    if host.system() == "Darwin":
        # Without it jax-metal refuses any jax that is newer than itself.
        os.environ.setdefault("ENABLE_PJRT_COMPATIBILITY", "1")
    given = jax.config.values["jax_platforms"] or "" if wanted == "auto" else PLATFORMS[wanted]
    if given and "cpu" not in given.split(","):
        given += ",cpu"
    if given:
        jax.config.update("jax_platforms", given)


def start(wanted: str) -> str:
    """Starts the backend; a sentence that says which it is and why.

    Raises:
      UserError: it is not there, or has no plugin.
    """
    reason = "JAX found none"
    try:
        found = jax.devices()[0].platform
    except RuntimeError as error:
        found, reason = "", " ".join(str(error).split())[:160]
    by_variable = {
        name: os.environ[name]
        for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
        if wanted == "auto" and os.environ.get(name)
    }
    given = by_variable or {"--platform": wanted}
    asked = {name for names in given.values() for name in names.split(",")}
    # Where its plugin is missing, JAX may fall back to the CPU without a word.
    if not found or (found == "cpu" and not asked & {"auto", "cpu"}):
        words = " ".join(f"{name}={value}" for name, value in given.items())
        extra = f"lth_flax[{wanted}]" if wanted in EXTRAS else "its plugin"
        raise UserError(
            f"{words} is not available here ({reason}): expected its device and its "
            f"plugin; install {extra}, or use --platform=cpu"
        )
    if wanted != "auto":
        return f"{found} (as --platform={wanted} says)"
    if found != "cpu":
        return f"{found} (auto: the accelerator that JAX found)"
    if has_nvidia():
        return "cpu (auto: there is an NVIDIA GPU, but no plugin for it; install lth_flax[cuda])"
    if host.system() == "Darwin" and host.machine() == "arm64":
        return "cpu (auto: no plugin for this GPU; install lth_flax[mps] or lth_flax[metal])"
    return "cpu (auto: JAX found no accelerator)"


def host_device() -> jax.Device:
    """The CPU, where networks are drawn and masks are found, whatever trains them.

    Raises:
      UserError: JAX was started without it.
    """
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:
        found = jax.config.values["jax_platforms"]
        raise UserError(
            f"JAX has started without a CPU (jax_platforms={found}), where networks are drawn: "
            f"expected it beside the accelerator; set JAX_PLATFORMS={found},cpu before JAX starts"
        ) from None


def has_nvidia() -> bool:
    """Whether the system has an NVIDIA device, with or without JAX's plugin for it."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
