"""What counts as other code, and what does not."""

import ast
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lth_flax import identity
from lth_flax.code_digest import function_digest, module_digests, source_of, tree_digest

PACKAGE = Path(__file__).resolve().parents[1] / "lth_flax"


def digest(source):
    return tree_digest(ast.parse(source))


PLAIN = """
def f(x, *, y=1):
    if x:
        return "a" + f"{x!r:>{y}}"
    return None
"""


@pytest.mark.parametrize(
    "source",
    [
        '"""A module."""\n' + PLAIN,
        PLAIN.replace("    if x:", '    """What it does."""\n    # Why.\n    if x:'),
        PLAIN.replace('"a" + f"{x!r:>{y}}"', "(u'a' + \\\n        f'{x!r:>{y}}')  # so"),
        PLAIN.replace("    return None", "\n\n    return None\n    'an afterthought'"),
    ],
)
def test_words_for_readers_are_no_code(source):
    assert digest(source) == digest(PLAIN)


@pytest.mark.parametrize(
    "source",
    [
        PLAIN.replace("y=1", "y=True"),
        PLAIN.replace("y=1", "y=1.0"),
        PLAIN.replace("*, ", ""),
        PLAIN.replace('"a"', '"b"'),
        PLAIN.replace('"a"', 'b"a"'),
        PLAIN.replace("!r", "!s"),
        PLAIN.replace("return None", "return"),
        PLAIN.replace("def f", "async def f"),
        PLAIN.replace("if x", "while x"),
        PLAIN + "f = f\n",
    ],
)
def test_everything_else_is(source):
    assert digest(source) != digest(PLAIN)


def test_a_tree_is_told_by_its_shape():
    assert digest("a = [1, [2, 3]]") != digest("a = [1, 2, [3]]")
    assert digest("f(a, b=c)") != digest("f(a, c)")
    assert digest("x = '(Name id str:y )'") != digest("x = y")


def test_it_is_the_same_under_every_python():
    """By hand, as ast.dump of Python 3.13 says it: fields of later versions are empty here."""
    tree = ast.parse("def f(): return None")
    tree.body[0].type_params = []  # since Python 3.12
    assert digest("def f(): return None") == tree_digest(tree)


# Modules. -------------------------------------------------------------------------------

COMMAND = "lth_flax.experiments.winning_ticket"


def code(edit=lambda name, source: source):
    """Digests of what a command trains with, every module edited."""

    def read(name):
        source = source_of(name)
        return source and edit(name, source)

    return module_digests([COMMAND], apart_from=identity.NOT_OF_RESULTS, read=read)


@pytest.fixture(scope="module")
def plain():
    return code()


def test_an_edit_of_any_module_that_trains_is_found(plain):
    edited = code(lambda name, source: source + "\n_more = 1\n")
    assert edited.keys() == plain.keys()
    assert [name for name in plain if edited[name] == plain[name]] == []


@pytest.mark.parametrize(
    "module", ["pruning.scores", "arms", "models.lstm", "data.text", "training.host"]
)
def test_an_edit_is_named(plain, module):
    """One constant, or one name, is enough."""
    module = f"lth_flax.{module}"

    def edit(name, source):
        if name != module:
            return source
        tree = ast.parse(source)
        node = next(n for n in ast.walk(tree) if isinstance(n, ast.Attribute))
        node.attr += "_"
        return ast.unparse(tree)

    edited = code(edit)
    assert [name for name in plain if edited[name] != plain[name]] == [module]


def test_docstrings_comments_and_layout_of_all_modules_are_no_edit(plain):
    edited = []

    def edit(name, source):
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value += " Said otherwise."
                edited.append(name)
        return f"# The beginning.\n\n{ast.unparse(tree)}\n# The end.\n"

    assert code(edit) == plain
    assert set(edited) == plain.keys()


def test_pages_and_exports_and_statistics_are_no_code(plain):
    """Not even if they were gone."""
    others = {
        ".".join(("lth_flax", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in PACKAGE.rglob("*.py")
    } - plain.keys()
    assert {
        "lth_flax.analysis.page",
        "lth_flax.analysis.figures",
        "lth_flax.tickets.ticket",
    } <= others
    assert code(lambda name, source: "" if name in others else source) == plain


def test_code_is_all_that_training_imports_and_no_page(plain):
    parts = {name.split(".")[1] for name in plain}
    assert {"data", "models", "pruning", "training", "experiments", "randomness"} <= parts
    assert not parts & {"analysis", "benchmarks", "tickets", "identity"}
    for folder in ("models", "pruning", "training"):
        # What diagnostics say of a mask stands in records and changes none.
        files = {path.stem for path in (PACKAGE / folder).glob("*.py")} - {
            "__init__",
            "diagnostics",
        }
        assert {f"lth_flax.{folder}.{name}" for name in files} <= plain.keys()


def test_imports_are_followed_wherever_they_stand():
    sources = {
        "p.a": "def f():\n    from p.b import g\nimport numpy, p.c.d\nfrom p import e",
        "p.b": "g = 1",
        "p.c": "",
        "p.c.d": "from p.a import f",
        "p.e": "import p.left.out",
        "p.left": "1",
        "p.left.out": "1",
        "p.other": "1",
        "p": "import p.other",
    }
    found = module_digests(["p.a"], apart_from=["p.left"], read=sources.get)
    assert list(found) == ["p.a", "p.b", "p.c", "p.c.d", "p.e"]


def test_what_is_no_module_has_no_source():
    assert source_of("lth_flax.pruning.scores.magnitude") is None
    assert source_of("lth_flax.nothing.at.all") is None


# A user's functions. --------------------------------------------------------------------

SCALE = 0.5


def helper(x):
    return SCALE * x


def make_score(power, table=None):
    def score(params, *, floor=0.0):
        """A score."""
        return jax.tree.map(lambda w: helper(w) ** power + floor, params), table

    return score


def test_a_function_is_its_source_and_what_it_refers_to(monkeypatch):
    one = function_digest(make_score(2))
    assert one == function_digest(make_score(2))
    assert one != function_digest(make_score(3))
    assert function_digest(make_score(2, np.ones(3))) != function_digest(make_score(2, np.zeros(3)))
    tables = [jnp.ones(3), {"a": (1, "x")}, {"a": (1, "y")}, jax.random.key(0), jax.random.key(1)]
    assert len({function_digest(make_score(2, table)) for table in tables}) == len(tables)
    other = make_score(2)
    other.__kwdefaults__ = {"floor": 1.0}
    assert one != function_digest(other)
    monkeypatch.setitem(globals(), "SCALE", 0.25)  # which a helper reads
    assert one != function_digest(make_score(2))


def test_a_helper_of_another_module_of_the_user_counts(tmp_path, monkeypatch):
    found = []
    for body in ("x + 1", "x + 2"):
        scope = {"__name__": "helpers"}
        file = tmp_path / f"{len(found)}.py"
        file.write_text(f"def helper(x):\n    return {body}\n")
        exec(compile(file.read_text(), str(file), "exec"), scope)
        monkeypatch.setitem(globals(), "helper", scope["helper"])
        found.append(function_digest(make_score(2)))
    assert found[0] != found[1]
    assert None not in found


def test_functions_in_other_clothes():
    partials = [functools.partial(make_score(2), floor=floor) for floor in (0.0, 1.0)]
    assert len({function_digest(one) for one in (*partials, make_score(2))}) == 3
    square, cube = (lambda x: x**2), (
        lambda x: x**3
    )  # fmt: skip
    assert function_digest(square) != function_digest(cube)
    assert function_digest(jax.jit(helper)) == function_digest(helper)
    recursive = [lambda n: recursive[0](n - 1)]
    assert function_digest(recursive[0])


def test_a_function_of_a_notebook_cell_has_its_source(monkeypatch):
    import linecache

    def define(body):
        source = f"def score(x):\n    return {body}\n"
        name = f"<cell {body}>"
        monkeypatch.setitem(
            linecache.cache, name, (len(source), None, source.splitlines(True), name)
        )
        scope = {"__name__": "__main__"}
        exec(compile(source, name, "exec"), scope)
        return scope["score"]

    assert function_digest(define("x + 1")) != function_digest(define("x + 2")) is not None


def test_without_source_there_is_no_digest():
    scope = {}
    exec("def score(x): return x", scope)
    assert function_digest(scope["score"]) is None
    assert function_digest(len) is None
    assert function_digest(3) is None
