"""Files for other programs: what a reader of the format finds in them, and what they compute."""

import dataclasses
import importlib.util
import io
import json
import sys

import jax
import numpy as np
import pytest
from made_tickets import CLASSES, WORDS, make_ticket
from safetensors import numpy as safetensors

from lth_flax.config import Config
from lth_flax.data.batches import bucket_of
from lth_flax.data.sources import load_source
from lth_flax.data.tables import read_texts
from lth_flax.data.text import intern
from lth_flax.errors import UserError
from lth_flax.pruning.masks import apply_mask
from lth_flax.text_tasks import prepare_data
from lth_flax.tickets.compaction import sizes
from lth_flax.tickets.export import export_ticket, network_of
from lth_flax.tickets.torch_format import from_torch, state_dict

TOKENS = np.random.default_rng(0).integers(0, len(WORDS), (5, 6))
LENGTHS = np.array([6, 3, 1, 0, 5])


def ours(network):
    return np.asarray(network.model.apply({"params": network.params}, TOKENS, LENGTHS))


def expected(ticket):
    return np.asarray(ticket.model.apply({"params": ticket.trained_params}, TOKENS, LENGTHS))


def equal_trees(one, other):
    jax.tree_util.tree_map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    "dead",
    ["lstm_1", *(pytest.param(d, marks=pytest.mark.slow) for d in ("", "lstm_0/backward", "lstm"))],
)
def test_a_compacted_network_answers_alike_and_has_no_empty_layer(dead):
    ticket = make_ticket(structured=True, dead=dead)
    network = network_of(ticket, compacted=True)
    np.testing.assert_allclose(ours(network), expected(ticket), atol=1e-5)
    assert min(network.model.embedding_size, *sum(network.model.widths, ())) > 0
    assert sizes(network.model).parameters < sizes(ticket.model).parameters


def test_weights_are_those_asked_for():
    ticket = make_ticket()
    equal_trees(network_of(ticket).params, ticket.trained_params)
    start = apply_mask(ticket.initial_params, ticket.mask)
    equal_trees(network_of(ticket, weights="initial").params, start)
    rewound = dataclasses.replace(ticket, rewind_params=ticket.trained_params)
    equal_trees(network_of(rewound, weights="initial").params, ticket.trained_params)
    with pytest.raises(UserError, match="weights is 'best': expected one of trained, initial"):
        network_of(ticket, weights="best")


def test_weights_that_grew_back_are_exported_as_they_are():
    ticket = make_ticket()
    grown = dataclasses.replace(
        ticket, trained_params=jax.tree_util.tree_map(lambda w: w + 1, ticket.trained_params)
    )
    for compacted in (False, True):
        network = network_of(grown, compacted=compacted)
        equal_trees(network.params, grown.trained_params)
        assert all(leaf.all() for leaf in jax.tree_util.tree_leaves(network.mask))


@pytest.mark.parametrize("format", ["safetensors", "npz"])
def test_flat_files_hold_parameters_and_masks_by_their_paths(tmp_path, format):
    ticket = make_ticket()
    export_ticket(ticket, tmp_path / "new" / "out", format=format)
    content = (tmp_path / "new" / "out" / f"weights.{format}").read_bytes()
    read = safetensors.load(content) if format == "safetensors" else np.load(io.BytesIO(content))
    for path in ("lstm_1/backward/recurrent_kernel", "head/bias", "embedding/embedding"):
        leaf, mask = ticket.trained_params, ticket.mask
        for name in path.split("/"):
            leaf, mask = leaf[name], mask[name]
        np.testing.assert_array_equal(read[path], leaf)
        assert (f"mask/{path}" in read) == path.endswith("kernel")
        if path.endswith("kernel"):
            np.testing.assert_array_equal(read[f"mask/{path}"], mask)


def test_what_stands_beside_the_weights_says_how_texts_become_ids(tmp_path):
    ticket = make_ticket(settings={"tokenizer": "characters", "max_length": 9, "keep": "start"})
    files = export_ticket(ticket, tmp_path, format="npz", compacted=True, weights="initial")
    assert {file.name for file in files} == {"weights.npz", "ticket.json"}
    said = json.loads((tmp_path / "ticket.json").read_text(encoding="utf-8"))
    assert said["vocabulary"] == list(WORDS)
    assert said["class_names"] == list(CLASSES)
    assert said["text"]["tokenizer"] == "characters"
    assert (said["text"]["longest"], said["text"]["keep"]) == (9, "start")
    assert (said["weights"], said["compact"]) == ("initial", True)


def test_the_state_dict_of_one_lstm_has_the_names_and_shapes_of_pytorch():
    ticket = make_ticket(layers=2, hidden=3)
    state = state_dict(ticket.trained_params, separate=False)
    shapes = {name: array.shape for name, array in state.items()}
    assert shapes["embedding.weight"] == (len(WORDS), 4)
    assert shapes["lstm.weight_ih_l0"] == (12, 4)
    assert shapes["lstm.weight_ih_l1_reverse"] == (12, 6)
    assert shapes["lstm.bias_hh_l1_reverse"] == (12,)
    assert shapes["head.weight"] == (3, 6)
    assert len(state) == 3 + 2 * 2 * 4
    assert not state["lstm.bias_hh_l0"].any()


@pytest.mark.parametrize("compacted", [False, True])
def test_to_pytorch_and_back_is_exact(tmp_path, compacted):
    ticket = make_ticket(structured=True)
    export_ticket(ticket, tmp_path, format="torch", compacted=compacted)
    network = network_of(ticket, compacted=compacted)
    model, params, mask = from_torch(tmp_path / "weights.safetensors")
    assert model.widths == network.model.widths
    equal_trees(params, network.params)
    assert not any(leaf.ndim for leaf in jax.tree_util.tree_leaves(mask))
    if not compacted:  # nothing is left to prune where all pruned units are gone
        _, params, mask = from_torch(tmp_path / "pruned_weights.safetensors")
        equal_trees(params, ticket.trained_params)
        for found, leaf in zip(*map(jax.tree_util.tree_leaves, (mask, ticket.mask)), strict=True):
            np.testing.assert_array_equal(np.broadcast_to(found, leaf.shape), leaf)


def test_from_pytorch_both_biases_are_added_whatever_the_modules_are_called(tmp_path):
    state = state_dict(make_ticket().trained_params, separate=False)
    rng = np.random.default_rng(1)
    renamed = {}
    for name, array in state.items():
        other = name.replace("lstm.", "encoder.rnn.").replace("head", "classify.1")
        array = rng.normal(size=array.shape).astype(array.dtype) if "bias_hh" in name else array
        renamed[other.replace("embedding", "words")] = np.ascontiguousarray(array)
    safetensors.save_file(renamed, tmp_path / "theirs.safetensors")
    _, params, _ = from_torch(tmp_path / "theirs.safetensors")
    for layer, direction, suffix in ((0, "forward", "l0"), (1, "backward", "l1_reverse")):
        both = sum(renamed[f"encoder.rnn.bias_{kind}_{suffix}"] for kind in ("ih", "hh"))
        np.testing.assert_array_equal(params[f"lstm_{layer}"][direction]["bias"], both)
    np.testing.assert_array_equal(params["head"]["kernel"].T, renamed["classify.1.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {k: v for k, v in s.items() if "reverse" not in k}, "bidirectional nn.LSTM"),
        (lambda s: {k: v for k, v in s.items() if "lstm" not in k}, "bidirectional nn.LSTM"),
        (lambda s: {k: v for k, v in s.items() if "weight_hh_l1" not in k}, "weights and biases"),
        (lambda s: {**s, "lstm.weight_hr_l0": np.ones((2, 3), "f")}, "weight_hr"),
        (lambda s: {**s, "lstm.weight_ih_l1": np.ones((9, 6), "f")}, "expected .12, 6."),
        (lambda s: {**s, "lstm.weight_hh_l0": np.ones(3, "f")}, "has the shape"),
        (lambda s: {**s, "norm.weight": np.ones(3, "f")}, "norm.weight"),
        (lambda s: {**s, "head.weight": np.ones((3, 5), "f")}, "head.weight has the shape"),
        (lambda s: {**s, "head.weight": np.ones((3, 6), int)}, "expected float32"),
        (lambda s: {**s, "two.weight_hh_l0": s["lstm.weight_hh_l0"]}, "a second LSTM"),
        (lambda s: {**s, "head.weight_mask": np.ones((3, 5), "f")}, "head.weight_mask"),
    ],
)
def test_another_network_is_one_error(tmp_path, change, says):
    state = {
        name: np.ascontiguousarray(array)
        for name, array in state_dict(make_ticket().trained_params, separate=False).items()
    }
    safetensors.save_file(change(state), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=says) as error:
        from_torch(tmp_path / "other.safetensors")
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_state_dict_is_one_error(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04 a pickle in an archive")
    for path in (tmp_path / "model.pt", tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot be read as safetensors"):
            from_torch(path)


def test_what_cannot_be_exported_is_one_error(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="expected one of torch, onnx, safetensors, npz"):
        export_ticket(make_ticket(), tmp_path, format="pickle")
    with pytest.raises(UserError, match="a ticket of 'games'"):
        export_ticket(make_ticket(task="games"), tmp_path, format="torch")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        export_ticket(make_ticket(), tmp_path / "file" / "out", format="npz")
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'lth_flax\[export\]'"):
        export_ticket(make_ticket(), tmp_path / "onnx", format="onnx")
    assert not (tmp_path / "onnx").exists()


# The other frameworks themselves -------------------------------------------------------------

NEEDS = "is in the extra export"


def torch_module(directory):
    spec = importlib.util.spec_from_file_location("exported", directory / "classifier.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torch_logits(directory, tokens, lengths):
    torch = pytest.importorskip("torch", reason=f"PyTorch {NEEDS}")
    loading = pytest.importorskip("safetensors.torch")
    model = torch_module(directory).Classifier()
    model.load_state_dict(loading.load_file(directory / "weights.safetensors"), strict=True)
    with torch.no_grad():
        return model(torch.tensor(tokens), torch.tensor(lengths)).numpy()


def onnx_logits(directory, tokens, lengths):
    runtime = pytest.importorskip("onnxruntime", reason=f"onnxruntime {NEEDS}")
    session = runtime.InferenceSession(
        directory / "classifier.onnx", providers=["CPUExecutionProvider"]
    )
    given = {"tokens": tokens.astype(np.int64), "lengths": lengths.astype(np.int32)}
    names = {one.name for one in session.get_inputs()}
    return session.run(["logits"], {name: given[name] for name in names})[0]


CASES = [
    {"layers": 1}, {"layers": 2}, {"layers": 3, "structured": True},
    {"layers": 2, "readout": "last_position"}, {"structured": True, "readout": "last_position"},
    {"structured": True, "dead": "lstm_0/forward"}, {"structured": True, "dead": "lstm_1"},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("compacted", [False, True], ids=["masked", "compact"])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(("format", "theirs"), [("torch", torch_logits), ("onnx", onnx_logits)])
def test_another_framework_answers_like_we_do(tmp_path, case, compacted, format, theirs):
    pytest.importorskip(format, reason=f"{format} {NEEDS}")
    ticket = make_ticket(hidden=5, **case)
    export_ticket(ticket, tmp_path, format=format, compacted=compacted)
    np.testing.assert_allclose(theirs(tmp_path, TOKENS, LENGTHS), expected(ticket), atol=1e-5)


@pytest.mark.slow
def test_training_goes_on_in_pytorch_under_the_mask(tmp_path):
    torch = pytest.importorskip("torch", reason=f"PyTorch {NEEDS}")
    loading = pytest.importorskip("safetensors.torch")
    ticket = make_ticket()
    export_ticket(ticket, tmp_path, format="torch")
    module = torch_module(tmp_path)
    state = loading.load_file(tmp_path / "pruned_weights.safetensors")
    assert "lstm.weight_ih_l0_orig" in state
    model = module.load_pruned(module.Classifier(), state)
    tokens, lengths = torch.tensor(TOKENS), torch.tensor(LENGTHS)
    np.testing.assert_allclose(model(tokens, lengths).detach().numpy(), expected(ticket), atol=1e-5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            model(tokens, lengths), torch.tensor([0, 1, 2, 0, 1])
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model(tokens, lengths)  # the masked weights of the last step
    kept = np.asarray(ticket.mask["lstm_0"]["forward"]["input_kernel"]).T
    weights = model.lstm.weight_ih_l0.detach().numpy()
    assert not weights[~kept].any()
    assert np.abs(weights[kept] - state["lstm.weight_ih_l0_orig"].numpy()[kept]).max() > 0.01


@pytest.mark.slow
def test_a_network_of_pytorch_itself_comes_here_and_goes_back(tmp_path):
    torch = pytest.importorskip("torch", reason=f"PyTorch {NEEDS}")
    saving = pytest.importorskip("safetensors.torch")
    export_ticket(make_ticket(hidden=5), tmp_path, format="torch")
    module = torch_module(tmp_path)
    torch.manual_seed(0)
    theirs = module.Classifier()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "bias_hh" in name:
                weight.zero_()
    saving.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    model, params, _ = from_torch(tmp_path / "theirs.safetensors")
    with torch.no_grad():
        answers = theirs(torch.tensor(TOKENS), torch.tensor(LENGTHS)).numpy()
    np.testing.assert_allclose(model.apply({"params": params}, TOKENS, LENGTHS), answers, atol=1e-5)
    back = state_dict(params, separate=False)
    assert back.keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        np.testing.assert_array_equal(back[name], weight.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("structured", [False, True])
def test_on_the_tweets_all_three_agree(tmp_path, shared_data, structured):
    pytest.importorskip("torch", reason=f"PyTorch {NEEDS}")
    pytest.importorskip("onnx", reason=f"onnx {NEEDS}")
    file = shared_data / "financial_tweets" / "stock_sentiment.csv"
    config = Config(dataset="financial_tweets", data_file=str(file), num_seeds=1)
    source = load_source(config)
    dataset = prepare_data(config, source, [0])
    words = dataset.vocabularies[0].words
    ticket = make_ticket(hidden=12, structured=structured, words=words, dataset="financial_tweets")
    assert dataset.size(0, "test") > 1000
    export_ticket(ticket, tmp_path / "torch", format="torch", compacted=structured)
    export_ticket(ticket, tmp_path / "onnx", format="onnx", compacted=structured)
    apply = jax.jit(ticket.model.apply)
    for bucket, members in zip(dataset.buckets, dataset.members[0]["test"], strict=True):
        tokens, lengths = bucket["tokens"][members], bucket["lengths"][members]
        mine = np.asarray(apply({"params": ticket.trained_params}, tokens, lengths))
        for answers in (
            torch_logits(tmp_path / "torch", tokens.astype(np.int64), lengths.astype(np.int64)),
            onnx_logits(tmp_path / "onnx", tokens, lengths),
        ):
            np.testing.assert_allclose(answers, mine, atol=1e-5)
            np.testing.assert_array_equal(answers.argmax(-1), mine.argmax(-1))
    # Read from the raw texts of the file, answers are those of the encoded ones.
    labels = np.array([one.label for one in ticket.predict(read_texts(str(file), "Text"))])
    of_bucket = bucket_of(intern(source.texts).lengths, dataset.edges)
    for number, bucket in enumerate(dataset.buckets):
        mine = apply({"params": ticket.trained_params}, bucket["tokens"], bucket["lengths"])
        expected = np.array(CLASSES)[np.asarray(mine).argmax(-1)]
        np.testing.assert_array_equal(labels[of_bucket == number], expected)
