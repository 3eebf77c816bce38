"""Who imports whom: read off the source of every module, imports inside functions included."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lth_flax"

# What each part may import besides itself. Arrows go one way: there is no cycle here.
ALLOWED = {
    "errors": set(),
    "types": set(),
    "compat": set(),
    "host_arrays": set(),
    "cores": set(),
    "quiet": set(),
    "streams": set(),
    "__main__": {"streams"},
    "jax_import": {"streams"},
    "randomness": set(),
    "settings": {"errors"},
    "config": {"errors", "settings"},
    "numerics": {"compat"},
    "code_digest": set(),
    "identity": {"errors", "files", "numerics", "code_digest"},
    "flagfile": {"config", "errors", "files", "settings"},
    "ignored": {"config", "errors", "settings"},
    "interrupt": {"streams"},
    "tasks": {"config", "errors", "types", "data.batches", "data.stretches"},
    "cli": {
        "settings", "config", "errors", "flagfile", "ignored", "interrupt", "jax_import",
        "quiet", "streams",
    },
    "files": {"errors"},
    "orbax_arrays": {"errors", "quiet"},
    "storage": {"files", "orbax_arrays"},
    "records": {"errors", "files"},
    "predictions": {"errors", "files", "records"},
    "parts": {"files", "predictions", "records"},
    "arms": {"errors", "types", "randomness", "numerics", "pruning", "matching"},
    "matching": {"errors", "types", "pruning"},
    "data": {"config", "settings", "errors", "files", "host_arrays", "randomness"},
    "models": {"types", "errors"},
    "pruning": {"types", "errors"},
    "training": {
        "cores", "types", "errors", "randomness", "numerics", "compat", "host_arrays", "quiet",
        "files", "orbax_arrays", "storage", "records", "pruning", "data.batches", "data.stretches",
    },
    "tickets": {
        "errors", "types", "files", "orbax_arrays", "storage", "data", "models", "pruning",
    },
    "analysis": {
        "settings", "config", "errors", "files", "flagfile", "identity", "records",
        "predictions", "parts", "streams", "jax_import",
    },
    "runs": {
        "settings", "config", "cores", "ignored", "interrupt", "errors", "types", "files",
        "randomness",
        "numerics", "identity", "flagfile", "records", "predictions", "parts", "tasks",
        "arms", "matching", "pruning", "training", "tickets", "analysis", "data.batches",
        "data.sources", "data.stretches", "streams",
    },
    "task_check": {"errors", "randomness", "tasks", "training"},
    "result": {"errors", "records", "tickets", "analysis", "runs"},
    "search": {
        "analysis", "config", "cores", "errors", "ignored", "types", "arms", "pruning", "training",
        "runs", "task_check", "tasks", "result",
    },
    "text_tasks": {
        "config", "errors", "ignored", "types", "identity", "data", "models", "pruning", "training",
        "runs", "tasks",
    },
    "language_tasks": {
        "config", "ignored", "types", "data", "models", "pruning", "training", "tasks",
    },
    "text_tickets": {
        "config", "data", "errors", "identity", "records", "runs", "settings", "text_tasks",
        "tickets",
    },
    "linearized": {"types", "models", "pruning", "training", "tasks"},
    "experiments": {
        "jax_import", "settings", "config", "cli", "cores", "errors", "types", "files",
        "randomness", "identity", "flagfile", "records", "data", "pruning", "training", "tickets",
        "analysis", "arms", "runs", "search", "text_tasks", "text_tickets", "language_tasks",
        "tasks", "ignored", "interrupt", "streams",
    },
    "benchmarks": {
        "jax_import", "config", "cores", "errors", "types", "files", "randomness", "records",
        "data", "models", "pruning", "training", "tickets", "analysis", "experiments", "runs",
    },
}  # fmt: skip

# Packages that only some modules may import.
KEEPERS = {
    "absl": ("cli",),
    "orbax": ("orbax_arrays",),
    "matplotlib": ("analysis", "result"),
    "jinja2": ("analysis",),
    "scipy": ("analysis", "matching"),
    "tensorflow_datasets": ("data",),
    "tqdm": ("data", "runs", "benchmarks"),
    "torch": ("benchmarks",),
    "safetensors": ("tickets", "benchmarks"),
    "onnx": ("tickets",),
    "onnxruntime": (),
    "tensorboardX": ("runs.log",),
    "ray": ("experiments.sweep_ray",),
    "tensorflow": (),
    "keras": (),
}

# Imports inside functions: what is heavy, is not there everywhere, or may only come after a step.
LATE = {
    "ray", "tensorflow_datasets", "orbax", "fcntl", "resource", "flax", "jax",
    "scipy.optimize",  # a quarter of a second, for two arms and one command
    "onnx",  # of an extra, and one format of four
    "lth_flax.runs.workdir",  # by a sweep's task: NumPy and JAX count cores, which it takes before
}  # fmt: skip

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path):
    """ "training.loop" of lth_flax/training/loop.py; "training" of its __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in FILES}


def imports(source):
    """Everything that a source text imports; "a.b" for `from a import b`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who is meant"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def late_imports(source):
    """What a source text imports inside of functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    bodies = [ast.unparse(n) for n in ast.walk(ast.parse(source)) if isinstance(n, functions)]
    return {name for body in bodies for name in imports(body)}


def circle(graph):
    """Modules that import each other in a circle, the first one again at the end; or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def part_of(module):
    """The part that a module belongs to."""
    return module.partition(".")[0]


def within(name, part):
    return name == part or name.startswith(f"{part}.")


def our_imports(source):
    """Names below lth_flax of modules: "data.batches" for `from lth_flax.data.batches import x`."""
    for name in imports(source):
        if within(name, "lth_flax"):
            inner = name.removeprefix("lth_flax").removeprefix(".")
            while inner and inner not in MODULES:
                inner = inner.rpartition(".")[0]
            yield inner


def breaches(module, source):
    """The imports of a module that the rule does not allow."""
    part = part_of(module)
    wrong = []
    for name in our_imports(source):
        if part_of(name) != part and not {name, part_of(name)} & ALLOWED[part]:
            wrong.append(name)
    for name in imports(source):
        package = name.partition(".")[0]
        places = KEEPERS.get(package)
        if places is not None and not any(within(module, p) or part == p for p in places):
            wrong.append(package)
    return wrong


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_module_imports_what_its_part_may(path):
    module = module_name(path)
    source = path.read_text(encoding="utf-8")
    if module == "":  # the package itself imports nothing of its own before it is asked to
        assert list(our_imports(source)) == []
    else:
        assert breaches(module, source) == []


def test_the_rule_has_no_cycle():
    order = []
    while len(order) < len(ALLOWED):
        free = [
            part
            for part, allowed in ALLOWED.items()
            if part not in order and {name.partition(".")[0] for name in allowed} <= set(order)
        ]
        assert free
        order += free
    assert {part_of(module) for module in MODULES - {""}} == set(ALLOWED)


def test_no_modules_import_each_other():
    """Nor inside a folder, nor by an import in a function."""
    sources = {module_name(path): path.read_text(encoding="utf-8") for path in FILES}
    assert circle({name: set(our_imports(text)) - {name} for name, text in sources.items()}) == []


def test_imports_in_functions_have_a_reason():
    for path in FILES:
        found = late_imports(path.read_text(encoding="utf-8"))
        odd = {name for name in found if not any(within(name, allowed) for allowed in LATE)}
        assert odd == set(), path


def test_circles_and_late_imports_would_be_found():
    source = "def f():\n    from lth_flax.analysis.page import g\n    import ray"
    assert late_imports(source) == {"lth_flax.analysis.page.g", "ray"}
    assert late_imports("import ray") == set()
    graph = {"a": {"b"}, "b": set(our_imports(source)), "analysis.page": {"a"}}
    assert set(circle(graph)) == {"a", "b", "analysis.page"}
    assert circle({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("models.lstm", "from lth_flax.pruning import masks", ["pruning.masks"]),
        ("pruning.select", "def f():\n    import lth_flax.models.lstm", ["models.lstm"]),
        ("training.loop", "from lth_flax.data.dataset import Dataset", ["data.dataset"]),
        ("training.loop", "from lth_flax.data.batches import Call", []),
        ("analysis.tables", "from lth_flax.runs.run import Run", ["runs.run"]),
        ("data.sources", "from absl import flags", ["absl"]),
        ("training.loop", "import orbax.checkpoint as ocp", ["orbax"]),
        ("experiments.run", "import matplotlib.pyplot", ["matplotlib"]),
        ("experiments.sweep", "def f():\n    import ray", ["ray"]),
        ("analysis.figures", "import matplotlib.pyplot", []),
    ],
)
def test_a_breach_would_be_found(module, source, wrong):
    assert breaches(module, source) == wrong


def test_only_cli_knows_flags():
    for path in FILES:
        if module_name(path) != "cli":
            assert not re.search(r"\bFLAGS\b", path.read_text(encoding="utf-8")), path


def test_a_benchmark_says_in_one_line_that_jax_refuses_a_variable():
    # The packages of commands and analysis see to it; of benchmarks each module, as some of them
    # run without JAX.
    for path in sorted((PACKAGE / "benchmarks").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        names = [name for name in imports(source) if name.split(".")[0] in ("jax", "lth_flax")]
        if '"__main__"' in source and "jax" in names:
            assert names[0] == "lth_flax.jax_import", path
    for package in ("experiments", "analysis"):
        source = (PACKAGE / package / "__init__.py").read_text(encoding="utf-8")
        assert "lth_flax.jax_import" in imports(source), package
