"""What an identity holds, and how what differs is said."""

import hashlib
import importlib.metadata

import numpy as np
import pytest

from lth_flax import identity
from lth_flax.errors import UserError
from lth_flax.identity import digest, file_digest, identity_of, is_identity, what_differs

ONE = {
    "data": {"data fingerprint": "ab" * 32},
    "files": {"word vectors": "cd" * 32},
    "versions": {"jax": "0.10.2", "Unicode": "14.0.0"},
    "numerics": {"jax_use_magma": "auto", "OMP_NUM_THREADS": "1", "xla_cpu_fast": "true"},
    "code": {f"lth_flax.{name}": "1" for name in ("a", "b", "c.d", "e", "f")},
}


def other(**parts):
    return {**ONE, **parts}


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (ONE, []),
        (other(files={"word vectors": "12" * 32}), ["word vectors (cdcdcdcdcdcd there, 12121212"]),
        (other(files={}), ["word vectors (cdcdcdcdcdcd there, none now)"]),
        (other(data={"data fingerprint": "9"}), ["data fingerprint (abababababab there, 9 now)"]),
        (other(versions={"jax": "0.5.0", "Unicode": "14.0.0"}), ["jax (0.10.2 there, 0.5.0 now)"]),
        (other(code={**ONE["code"], "lth_flax.c.d": "2"}), ["code (c.d)"]),
        (other(code={"lth_flax.a": "1", "mine.score": "5"}), ["code (b, c.d, e, f and 1 more)"]),
        # An option that one version or process does not know is none that was set.
        (other(numerics={"OMP_NUM_THREADS": "1", "xla_cpu_fast": "true"}), []),
        (other(numerics={**ONE["numerics"], "jax_use_magma": "on"}), ["jax_use_magma (auto there"]),
        (
            other(numerics={"jax_use_magma": "auto"}),
            ["OMP_NUM_THREADS (1 there, none now)", "xla_cpu_fast (true there, none now)"],
        ),
        ({"data": ONE["data"]}, []),  # parts that one does not say
    ],
)
def test_what_differs_is_said_by_name(second, said):
    found = what_differs(ONE, second, words=("there", "now"))
    assert len(found) == len(said)
    for text, start in zip(found, said, strict=True):
        assert text.startswith(start)


def test_only_the_parts_that_are_asked_for():
    second = other(files={}, versions={"jax": "0.5.0", "Unicode": "14.0.0"})
    found = what_differs(ONE, second, parts=("files",), words=("", ""))
    assert found == ["word vectors (cdcdcdcdcdcd, none)"]


def test_a_digest_stands_for_its_parts():
    changed = [other(**{part: {"x": "y"}}) for part in identity.PARTS]
    assert len({digest(one) for one in (ONE, *changed)}) == 6
    assert digest(ONE, ("code",)) == digest(changed[0], ("code",)) != digest(changed[4], ("code",))
    assert digest({part: dict(reversed(ONE[part].items())) for part in ONE}) == digest(ONE)


@pytest.mark.parametrize("value", [None, 3, [], "x", {"data": 3}, {"data": {"x": 1}}])
def test_what_is_read_may_be_none(value):
    assert not is_identity(value)


def test_it_has_all_parts_and_is_json_of_texts():
    found = identity_of(
        data="1", files={}, command="lth_flax.experiments.winning_ticket", functions=[mine, abs_]
    )
    assert tuple(found) == identity.PARTS
    assert is_identity(found)
    for name in ("jax", "flax", "optax", "numpy", "scipy"):
        assert found["versions"][name] == importlib.metadata.version(name)
    assert f"{__name__}.mine" in found["code"]
    assert "lth_flax.pruning.scores" in found["code"]


def mine(params):
    return params


def abs_(params):
    return np.abs(params)


def test_a_function_without_source_is_refused():
    with pytest.raises(UserError, match="len has no source"):
        identity_of(data="1", files={}, command="lth_flax.randomness", functions=[len])


def test_files_by_what_is_in_them(tmp_path):
    (tmp_path / "a").write_bytes(b"words")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"words").hexdigest()
    for name, reason in (("b", "No such file"), (".", "Is a directory")):
        with pytest.raises(UserError, match=reason):
            file_digest(tmp_path / name)
