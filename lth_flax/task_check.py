"""What the functions of a task return, by tracing them: a mistake is said before any training."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lth_flax.errors import UserError, first_line
from lth_flax.randomness import key
from lth_flax.tasks import Examples, Task
from lth_flax.training.steps import Recipe

WEIGHTED = 'such as jnp.average(each, weights=batch["weight"])'


def check_task(task: Task, examples: Examples, *, seed: int, batch_size: int) -> None:
    """Traces the functions of a task on the shapes of a batch; no network is computed.

    Raises:
      UserError: a task with a memory, and examples that are no streams, or the other way round;
        or a function fails, or returns something else than training needs. A loss that
        counts what only fills up a batch is a warning.
    """
    if (task.carry is None) == examples.are_streams:
        raise UserError(
            "Examples.streams go with a task that has a memory, and only they do: "
            + ("give Task(carry=...) too, or other examples" if task.carry is None
               else "Task(carry=...) needs batches that follow each other; give Examples.streams")
        )  # fmt: skip
    one = key(seed, "initialization")
    _, params = _traced("init", task.init, one, given="it draws with jax.random from a key")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UserError(
                f"the task's init returned {jax.tree_util.keystr(path)} as {leaf.dtype}: expected "
                "floats alone, as every parameter has a gradient; keep counters, random keys and "
                "the like out of what init returns"
            )
    batch = {
        name: jax.ShapeDtypeStruct(
            (batch_size, *array.shape[1:]), jax.dtypes.canonicalize_dtype(array.dtype)
        )
        for name, array in examples.buckets[0].items()
    }
    batch["weight"] = jax.ShapeDtypeStruct((batch_size,), jnp.float32)
    recipe = Recipe(task.loss, task.evaluate, None, None, carry=task.carry)  # type: ignore[arg-type]
    memory = jax.eval_shape(lambda: recipe.empty(batch_size))
    given = f"a batch has {_words(batch)}"

    jaxpr, (loss, _) = _traced("loss", recipe.loss, params, batch, one, memory, given=given)
    if not _is_float(loss):
        raise UserError(
            f"the task's loss returned {_words(loss)}: expected one float, the mean over the "
            f"batch, {WEIGHTED}"
        )
    fills = any(len(part) % batch_size for part in examples.draw(seed)["train"])
    if task.carry is None and fills and not _reads_weight(jaxpr, (params, batch, one, memory)):
        warnings.warn(
            'the task\'s loss does not read batch["weight"], which is 0 for what only fills up '
            f"the last batch: expected the mean over the real examples, {WEIGHTED}",
            stacklevel=3,
        )

    _, (outputs, _) = _traced("evaluate", recipe.predict, params, batch, memory, given=given)
    if not isinstance(outputs, Mapping) or not all(
        getattr(value, "shape", ())[:1] == (batch_size,) for value in outputs.values()
    ):
        raise UserError(
            f"the task's evaluate returned {_words(outputs)}: expected a dict of arrays with one "
            f'number per example, such as {{"correct": float32[{batch_size}]}}'
        )
    _check_metrics(task, examples, seed, outputs)


def _traced(name: str, function: Callable[..., Any], *arguments: Any, given: str) -> Any:
    """(jaxpr, shapes of what it returns)."""
    try:
        return jax.make_jaxpr(function, return_shape=True)(*arguments)
    except UserError:
        raise
    except Exception as error:  # whatever someone's function raises
        raise UserError(f"the task's {name} fails: {first_line(error)}; {given}") from error


def _check_metrics(task: Task, examples: Examples, seed: int, outputs: Any) -> None:
    """Of outputs that are all zero, whose numbers mean nothing: only names and kinds do."""
    count = sum(map(len, examples.draw(seed)["validation"]))
    known = examples.of(seed, "validation")
    zeros = {name: np.zeros((count, *one.shape[1:]), one.dtype) for name, one in outputs.items()}
    try:
        with np.errstate(all="ignore"):
            task.measure(zeros, known)
    except (AttributeError, KeyError, NameError, TypeError) as error:
        raise UserError(
            f"the task's metrics fails: {first_line(error)}; it is given outputs with "
            f"{_words(zeros)} and examples with {_words(known)}"
        ) from error
    except UserError:
        raise
    except Exception:  # noqa: S110  (it may need outputs that are not all equal)
        pass


def _reads_weight(jaxpr: Any, arguments: Any) -> bool:
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(arguments)]
    weight = jaxpr.jaxpr.invars[paths.index("[1]['weight']")]
    return any(weight is read for equation in jaxpr.jaxpr.eqns for read in equation.invars)


def _is_float(value: Any) -> bool:
    return getattr(value, "shape", None) == () and jnp.issubdtype(value.dtype, jnp.floating)


def _words(value: Any) -> str:
    """Shapes as they are written: float32[32, 2]."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items()) or "an empty dict"
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(map(_words, value))})"
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{value.dtype}{list(shape)}"
