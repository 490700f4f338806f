"""Which tensor of a file that says nothing plays which part: by name first, then by shape, then by unit norms.

Whatever is inferred is recorded; whatever cannot be is a question for the caller, and all questions are asked at once.
Shapes: D = d_in, F = d_sae, O = d_out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from saereg.errors import FormatError, UsageError
from saereg.registry.files.tensors import Entry, TensorFile
from saereg.registry.formats.tensor_names import GATED, OF_LATENTS, OF_OUTPUT, ROLES, role, side
from saereg.registry.readings.given import Given
from saereg.schemas.metrics import FLOATS
from saereg.schemas.semantics import Assumption

PREFIXES = ("module.", "_orig_mod.", "autoencoder.", "sae.", "model.", "ae.")
"""What wrappers put before every name."""

TRAINING = frozenset(
    [
        "optimizer",
        "optimizer_state_dict",
        "optim",
        "optim_state_dict",
        "opt",
        "opt_state",
        "scheduler",
        "scheduler_state_dict",
        "lr_scheduler",
        "lr_scheduler_state_dict",
        "scaler",
        "grad_scaler",
        "rng",
        "rng_state",
        "rng_states",
    ]
)
"""Nests of training state."""

BACKUP = frozenset({"step", "ae", "optimizer"})
"""Nests of a mid-run backup of dictionary_learning, whose biases are in the units of scaled inputs."""

UNIT = 1e-3
"""Largest distance from 1 of a norm that counts as 1."""


@dataclass(frozen=True)
class Question:
    """Something that the tensors do not say.

    Attributes:
        name: as in `--set name=value`.
        choices: what may be answered.
        why: what makes it undecidable; empty when nothing in a file of tensors ever says it.
    """

    name: str
    choices: tuple[str, ...]
    why: str = ""

    def __str__(self) -> str:
        """Return it as on the command line."""
        return f"--set {self.name}={'|'.join(self.choices)}"


@dataclass
class Anatomy:
    """The parts of a dictionary.

    Attributes:
        file: the file.
        names: key in the file → name without nests and wrappers.
        encoder: key of the encoder's matrix.
        decoder: key of the decoder's matrix; that of the encoder where they are tied.
        d_sae: F.
        by_rows: key of a matrix → whether its rows, not its columns, are the latents.
        vectors: part → key.
        left_out: keys that are none of the dictionary's.
        assumptions: what was inferred.
        questions: what could not be.
    """

    file: TensorFile
    names: dict[str, str]
    encoder: str = ""
    decoder: str = ""
    d_sae: int = 0
    by_rows: dict[str, bool] = field(default_factory=dict)
    vectors: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    assumptions: list[Assumption] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def entry(self, key: str) -> Entry:
        """Return shape and type of a tensor."""
        return self.file.entries[key]

    def assume(self, name: str, value: object, because: str) -> None:
        """Record something that was inferred."""
        self.assumptions.append(Assumption(field=name, value=str(value), because=because))

    def ask(self, name: str, choices: Iterable[object], why: str = "") -> None:
        """Record something that could not be inferred."""
        self.questions.append(Question(name, tuple(map(str, choices)), why))

    def width(self, key: str) -> int:
        """Return the axis of a matrix that is not the latents'."""
        rows, columns = self.entry(key).shape
        return columns if self.by_rows.get(key, rows == self.d_sae) else rows

    def length(self, key: str) -> int:
        """Return the number of values of a vector."""
        return max((1, *self.entry(key).shape))


def dissect(file: TensorFile, given: Given) -> Anatomy:
    """Tell the parts of a file apart.

    Args:
        file: tensors, and numbers and strings beside them.
        given: `inside`, `encoder`, `decoder`, `d_sae`, `encoder_latents`, `decoder_latents`, `unused`, and each of
            ROLES decide where the file does not.

    Raises:
        FormatError: when it is no such file: other matrices, shapes that share no axis, a backup.
        UsageError: when a given name is none of its tensors.
    """
    _refuse_backup(file)
    anatomy = Anatomy(file, {})
    inside = _unwrapped(anatomy, given)
    anatomy.names = _unprefixed(inside)
    anatomy.left_out += _unused(anatomy, given)
    rest = [key for key in file.entries if key not in anatomy.left_out]
    _refuse_whole_matrices(file, rest)
    anatomy.left_out += [key for key in rest if file.entries[key].dtype not in FLOATS or _is_training(key)]
    rest = [key for key in rest if key not in anatomy.left_out]
    here, outside = [key for key in rest if key in inside], [key for key in rest if key not in inside]
    matrices = [key for key in here if _is_matrix(file.entries[key])]
    vectors = [key for key in here if key not in matrices]
    _sides(anatomy, matrices, given)
    named = _named(anatomy, vectors, given)
    _latents(anatomy, named, given)
    _orientation(anatomy, given)
    _vectors(anatomy, named, [key for key in vectors if key not in named], outside)
    return anatomy


def _refuse_whole_matrices(file: TensorFile, keys: list[str]) -> None:
    """Refuse a matrix of whole numbers, and any tensor of float8: quantized weights are no counters.

    Raises:
        FormatError: naming it.
    """
    for key in keys:
        entry = file.entries[key]
        is_quantized = len(entry.shape) > 1 or entry.dtype.startswith("float8")
        if entry.dtype not in FLOATS and is_quantized and not _is_training(key):
            what = "a matrix" if len(entry.shape) > 1 else "a tensor"
            problem = f"{key} is {what} of {entry.dtype}, which may be quantized weights"
            raise FormatError(file.path, f"{problem}; convert it to float32, or say --set unused={key}")


def _refuse_backup(file: TensorFile) -> None:
    heads = {name.split("/")[0] for name in (*file.entries, *file.facts)}
    if heads >= BACKUP:
        problem = "a backup that dictionary_learning makes in the middle of a run: its biases are in other units"
        raise FormatError(file.path, f"{problem} than its ae.pt; use that, or read this --from dictionary-learning")


def _is_matrix(entry: Entry) -> bool:
    return sum(size > 1 for size in entry.shape) > 1


def _is_training(key: str) -> bool:
    return bool(TRAINING & set(key.split("/")[:-1])) or role(key) == "statistic"


def _unwrapped(anatomy: Anatomy, given: Given) -> dict[str, str]:
    """Return key → name inside the nest that holds the matrices."""
    entries = anatomy.file.entries
    inner, chosen = {key: key for key in entries}, given.text("inside")
    if chosen is not None:
        inner = {key: key.removeprefix(f"{chosen}/") for key in inner if key.startswith(f"{chosen}/")}
        if not inner:
            raise UsageError(f"inside={chosen}: {anatomy.file.path.name} has no such nest")
        anatomy.left_out += [key for key in entries if key not in inner]
    while True:
        trained = [key for key in inner if _is_matrix(entries[key]) and not _is_training(key)]
        heads = {inner[key].split("/")[0] if "/" in inner[key] else "" for key in trained}
        if not heads or "" in heads or any(side(head) for head in heads):
            return inner
        if len(heads) > 1:
            anatomy.ask("inside", sorted(heads), "several nests hold matrices")
            return inner
        (head,) = heads
        inner = {key: name.removeprefix(f"{head}/") for key, name in inner.items() if name.startswith(f"{head}/")}


def _unprefixed(inner: Mapping[str, str]) -> dict[str, str]:
    names = {key: name.replace("/", ".") for key, name in inner.items()}
    while names:
        found = [p for p in PREFIXES if all(name.startswith(p) for name in names.values())]
        if not found:
            break
        names = {key: name.removeprefix(found[0]) for key, name in names.items()}
    return names


def _unused(anatomy: Anatomy, given: Given) -> list[str]:
    said = given.text("unused")
    names = [name.strip() for name in said.split(",")] if said else []
    return [_key("unused", name, anatomy) for name in names if name not in anatomy.file.facts]


def _key(what: str, name: str, anatomy: Anatomy) -> str:
    """Return the key of a tensor that the caller named, in full or without nests."""
    file = anatomy.file
    keys = [name] if name in file.entries else [key for key, short in anatomy.names.items() if short == name]
    if not keys:
        held = ", ".join(sorted(file.entries)[:12])
        raise UsageError(f"{what}={name}: {file.path.name} has no such tensor; it holds {held}")
    return keys[0]


def _sides(anatomy: Anatomy, matrices: list[str], given: Given) -> None:
    """Find encoder and decoder among the matrices: as said, by name, or by unit norms."""
    said = {s: given.text(s) for s in ("encoder", "decoder")}
    chosen = {s: _key(s, name, anatomy) for s, name in said.items() if name}
    if any(question.name == "inside" for question in anatomy.questions):
        return
    file, shapes = anatomy.file, {anatomy.names[key]: anatomy.entry(key).shape for key in matrices}
    if any(len(shape) != 2 for shape in shapes.values()) or not 1 <= len(matrices) <= 2:
        held = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
        extra = "; name those that are not of the function: --set unused=NAME,NAME" if len(matrices) > 2 else ""
        raise FormatError(
            file.path, f"expected the two matrices of a dictionary, or one that is tied; found {held}{extra}"
        )
    if odd := [key for key in chosen.values() if key not in matrices]:
        raise UsageError(f"{anatomy.names.get(odd[0], odd[0])} is no matrix of the dictionary")
    if len(matrices) == 1:
        anatomy.encoder = anatomy.decoder = matrices[0]
        anatomy.assume("W_dec", "the encoder, transposed", f"{anatomy.names[matrices[0]]} is the only matrix")
        return
    for s, key in chosen.items():
        other = matrices[1] if key == matrices[0] else matrices[0]
        anatomy.encoder, anatomy.decoder = (key, other) if s == "encoder" else (other, key)
    if chosen:
        return
    by_name = {side(anatomy.names[key]): key for key in matrices}
    if {"encoder", "decoder"} & by_name.keys() and len(by_name) == 2:
        encoder = by_name.get("encoder") or next(key for key in matrices if key != by_name["decoder"])
        anatomy.encoder, anatomy.decoder = encoder, next(key for key in matrices if key != encoder)
        because = f"by name: {anatomy.names[anatomy.encoder]} and {anatomy.names[anatomy.decoder]}"
        anatomy.assume("encoder, decoder", f"{anatomy.encoder}, {anatomy.decoder}", because)
    else:
        anatomy.encoder, anatomy.decoder = matrices
        anatomy.ask("decoder", [anatomy.names[key] for key in matrices], "no name tells encoder and decoder apart")


def _named(anatomy: Anatomy, vectors: list[str], given: Given) -> dict[str, str]:
    """Return key → part of the vectors whose part is said, or told by their name."""
    found = {key: part for key in vectors if (part := role(anatomy.names[key]))}
    for part in ROLES:
        name = given.text(part)
        if name is not None:
            found = {key: known for key, known in found.items() if known != part}
            found |= {_key(part, name, anatomy): part}
    return found


def _latents(anatomy: Anatomy, named: Mapping[str, str], given: Given) -> None:
    """Find F among the axes that encoder and decoder share: as said, by named vectors, or the longer."""
    said = given.whole("d_sae")
    if not anatomy.encoder:
        return
    encoder, decoder = (anatomy.entry(key).shape for key in (anatomy.encoder, anatomy.decoder))
    shared = set(encoder) & set(decoder)
    if not shared or (said is not None and said not in shared):
        names = f"{anatomy.names[anatomy.encoder]} {encoder} and {anatomy.names[anatomy.decoder]} {decoder}"
        problem = f"d_sae = {said} is no axis of both" if shared else "share no axis, so no number of latents"
        raise FormatError(anatomy.file.path, f"{names}: {problem}")
    lengths = {anatomy.length(key): key for key, part in named.items() if part in OF_LATENTS}
    others = {anatomy.length(key): key for key, part in named.items() if part in OF_OUTPUT}
    by_name = [size for size in shared if size in lengths and size > 1]
    by_name = by_name or ([size for size in shared if size not in others] if others and len(shared) > 1 else [])
    anatomy.d_sae = said or (by_name[0] if len(by_name) == 1 else max(shared))
    if said is not None or len(shared) == 1:
        return
    if len(by_name) == 1:
        key = lengths.get(anatomy.d_sae) or next(iter(others.values()))
        anatomy.assume("d_sae", anatomy.d_sae, f"{anatomy.names[key]} has {anatomy.length(key)} values")
    else:
        anatomy.assume("d_sae", anatomy.d_sae, f"the longer of the axes {sorted(shared)}: no vector's name tells")


def _orientation(anatomy: Anatomy, given: Given) -> None:
    """Find which axis of each matrix is the latents'; in a square one nothing tells."""
    for part in ("encoder", "decoder"):
        said = given.text(f"{part}_latents", ("rows", "columns"))
        key = anatomy.encoder if part == "encoder" else anatomy.decoder
        if not key or (part == "decoder" and key == anatomy.encoder):
            continue
        rows, columns = anatomy.entry(key).shape
        if rows != columns:
            anatomy.by_rows[key] = rows == anatomy.d_sae
            if said is not None and (said == "rows") != anatomy.by_rows[key]:
                shape = f"{anatomy.names[key]} is {(rows, columns)} and d_sae = {anatomy.d_sae}"
                raise UsageError(f"{part}_latents={said}: {shape}")
        elif said is None:
            anatomy.ask(f"{part}_latents", ("rows", "columns"), f"{anatomy.names[key]} is square")
        anatomy.by_rows.setdefault(key, said == "rows")
    _by_unit_norms(anatomy)


def _by_unit_norms(anatomy: Anatomy) -> None:
    """Take for the decoder the one matrix whose latents have norm 1, where names do not tell."""
    if not any(question.name == "decoder" for question in anatomy.questions):
        return
    unit = [key for key in (anatomy.encoder, anatomy.decoder) if _has_unit_latents(anatomy, key)]
    if len(unit) == 1:
        if unit[0] == anatomy.encoder:
            anatomy.encoder, anatomy.decoder = anatomy.decoder, anatomy.encoder
        anatomy.questions = [question for question in anatomy.questions if question.name != "decoder"]
        because = "its latents, and not those of the other matrix, have norm 1"
        anatomy.assume("decoder", anatomy.names[unit[0]], because)


def _has_unit_latents(anatomy: Anatomy, key: str) -> bool:
    from saereg.registry.readings.reference import Raw

    shape = anatomy.entry(key).shape
    if shape[0] == shape[1]:
        return False
    raw = Raw({"": anatomy.file})
    norms = raw.row_norms(key) if anatomy.by_rows[key] else raw.column_norms(key)
    return bool((norms - 1).abs().max() <= UNIT)


def _vectors(anatomy: Anatomy, named: Mapping[str, str], unnamed: list[str], outside: list[str]) -> None:
    """Give each vector its part: as said or named, else by its length."""
    if not anatomy.encoder:
        return
    unknown = [key for key, part in named.items() if part == "scale"] + outside
    for part in ROLES:
        keys = [key for key, known in named.items() if known == part]
        if len(keys) > 1:
            anatomy.ask(part, [anatomy.names[key] for key in keys], "several are named so")
        elif keys:
            anatomy.vectors[part] = keys[0]
            _check_length(anatomy, part, keys[0])
    unknown += _by_length(anatomy, unnamed)
    if unknown:
        names = [anatomy.names.get(key, key) for key in unknown]
        anatomy.ask("unused", [",".join(names)], "if it is so; else it is a part that this layout has not")


def _by_length(anatomy: Anatomy, unnamed: list[str]) -> list[str]:
    """Give unnamed vectors the parts that are free; return those that none fits."""
    d_out, unknown = anatomy.width(anatomy.decoder), []
    free = [("b_enc", anatomy.d_sae)] if not {"b_enc", *GATED} & anatomy.vectors.keys() else []
    free += [("b_dec", d_out)] if not {"b_dec", "pre_bias"} & anatomy.vectors.keys() else []
    taken: list[str] = []
    for part, length in free:
        fitting = [key for key in unnamed if anatomy.length(key) == length]
        names = [anatomy.names[key] for key in fitting]
        if len(fitting) == 1 and d_out != anatomy.d_sae:
            anatomy.vectors[part] = fitting[0]
            anatomy.assume(part, names[0], f"the only vector of {length} values whose name says nothing else")
        elif fitting:
            anatomy.ask(part, names, f"{len(fitting)} of {length} values, by no name told apart")
        taken += fitting
    unknown += [key for key in unnamed if key not in taken]
    return unknown


def _check_length(anatomy: Anatomy, part: str, key: str) -> None:
    wanted = anatomy.d_sae if part in OF_LATENTS else anatomy.width(anatomy.decoder)
    found = anatomy.length(key)
    if found != wanted and not (found == 1 and "threshold" in part):
        problem = f"{anatomy.names[key]} {anatomy.entry(key).shape} would be {part}, which has {wanted} values"
        raise FormatError(anatomy.file.path, f"{problem}; say what it is, or --set unused={anatomy.names[key]}")
