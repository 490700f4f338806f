"""One row of an inventory as an artifact of a manifest."""

import itertools
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saereg.registry.foreign.kinds import Inferred
from saereg.registry.foreign.placing import WEIGHTS, PlacedRow, Said
from saereg.registry.importing.entry import slug
from saereg.registry.upgrading.account import Account
from saereg.registry.upgrading.given import Given, Setting
from saereg.schemas.names import path_problem

PLAIN = ("architecture", "d_in", "d_sae", "seed", "snapshot", "variant", "canonical", "expected_failure", "tied",
         "neuronpedia_id")  # fmt: skip
"""Fields of a row that are fields of an artifact."""

NESTED: Mapping[str, tuple[str, str]] = {
    "k": ("sparsity", "k"),
    "l1_coefficient": ("sparsity", "l1_coefficient"),
    "l0_coefficient": ("sparsity", "l0_coefficient"),
    "target_l0": ("sparsity", "target_l0"),
    "tokens": ("training", "tokens"),
    "training_steps": ("training", "steps"),
    "batch_size": ("training", "batch_size"),
    "lr": ("training", "lr"),
}
"""Field of a row → where an artifact has it."""

STREAMS: tuple[tuple[str, str], ...] = (
    (r"resid|hidden_states", "residual"),
    (r"mlp", "mlp"),
    (r"attn|attention|hook_z", "attention"),
    (r"embed", "embedding"),
)
"""Part of the name of a hook or module → what kind of tensor it is, the first one that fits."""


@dataclass
class Making:
    """A manifest that is being made.

    Attributes:
        given: what the user says.
        account: where the values of the inventory go.
        base_models: key → record.
        sites: key → record.
        used: settings that filled a field.
    """

    given: Given
    account: Account
    base_models: dict[str, dict[str, Any]] = field(default_factory=dict)
    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Filling:
    """One artifact that is being filled in.

    Attributes:
        making: the manifest it belongs to.
        row: the row that it is made of.
        pointer: where it will stand.
    """

    making: Making
    row: PlacedRow
    pointer: str

    def take(self, name: str, pointer: str, *, needed: bool = False) -> Any:  # noqa: ANN401 - of any type
        """Return what is known of a field, and note from where it came to a place of the manifest."""
        account, (value, origin) = self.making.account, self._found(name)
        if isinstance(origin, Said):
            account.move(origin.leaf, pointer, value)
        elif isinstance(origin, Setting):
            self.making.used.add(origin.word)
            account.suppose(pointer, value, f"--set {origin.word}")
        elif origin is not None:
            account.suppose(pointer, value, origin.because)
        elif needed:
            account.lack(name, self.row.id)
        return value

    def known(self, name: str) -> Any:  # noqa: ANN401
        """Return what is known of a field; nothing is noted."""
        return self._found(name)[0]

    def _found(self, name: str) -> "tuple[Any, Said | Setting | Inferred | None]":
        """Return value and origin of a field.

        What the inventory states holds; then what the user says of some dictionaries by their names, then what was
        inferred, then what the user says of all.
        """
        setting = self.making.given.setting(self.row, name)
        said = self.row.said.get(name) if name != "kind" else None
        inferred = self.row.inferred.get(name)
        of_all = setting is not None and setting.pattern == "*"
        found = said or (inferred or setting if of_all else setting or inferred)
        return (found.value, found) if found else (None, None)

    def artifact(self) -> dict[str, Any]:
        """Return the artifact; what it lacks is noted."""
        fields = self._identity() | self._plain()
        fields |= self._kind(fields["kind"])
        if claims := self._claims():
            fields["claims"] = claims
        if checkpoint := self._checkpoint():
            fields["source_checkpoint"] = checkpoint
        return {name: value for name, value in fields.items() if value is not None}

    def _identity(self) -> dict[str, Any]:
        account, row = self.making.account, self.row
        path = WEIGHTS.sub("", row.path)
        if (said := row.said.get("id")) is not None:
            account.move(said.leaf, f"{self.pointer}/id", row.id)
        if (said := row.said.get("path")) is not None:
            account.move(said.leaf, f"{self.pointer}/path", path)
        if path != row.path:
            account.suppose(f"{self.pointer}/path", path, f"a folder of its own: the file is {row.path}")
        kind = self.take("kind", f"{self.pointer}/kind", needed=True)
        if (said := row.said.get("kind")) is not None:
            if row.kind is not None:
                account.move(said.leaf, f"{self.pointer}/kind", kind)
            elif "variant" in row.inferred and self.making.given.setting(row, "variant") is None:
                account.move(said.leaf, f"{self.pointer}/variant", row.get("variant"))
            else:
                account.refuse(said.leaf, "no kind of dictionary")
        return {"id": row.id, "path": path, "kind": kind}

    def _plain(self) -> dict[str, Any]:
        needed = ("architecture", "d_in", "d_sae")
        fields = {name: self.take(name, f"{self.pointer}/{name}", needed=name in needed) for name in PLAIN}
        for name, (group, key) in NESTED.items():
            value = self.take(name, f"{self.pointer}/{group}/{key}")
            if value is not None:
                fields.setdefault(group, {})[key] = value
        status = self.row.said.get("status")
        if status is not None:
            self.making.account.refuse(status.leaf, "a sentence, and no field for it")
        return fields

    def _kind(self, kind: str | None) -> dict[str, Any]:
        """Return what only artifacts of one kind have: sites, steps, the width of an output."""
        steps = self.take("steps", f"{self.pointer}/sources/steps") if kind == "crosscoder" else None
        site = self.site("hook", "site", many=kind == "crosscoder")
        if kind == "crosscoder":
            axis = self.take("axis", f"{self.pointer}/sources/axis", needed=not steps)
            if axis in ("layer", "model"):
                self.making.account.lack("sources", self.row.id)
            elif not steps or self.row.get("n_sources") not in (None, len(steps)):
                self.making.account.lack("steps", self.row.id)
            n_sources = self.row.said.get("n_sources")
            if n_sources is not None and steps:
                self.making.account.move(n_sources.leaf, f"{self.pointer}/sources/steps", list(steps))
            return {"format": "saereg", "sources": {"axis": "snapshot", "site": site, "steps": list(steps or ())}}
        if kind != "transcoder":
            return {"site": site}
        out = self.site("hook_out", "site_out")
        return {"site": site, "site_out": out, "d_out": self.take("d_out", f"{self.pointer}/d_out", needed=True)}

    def model(self, *, many: bool) -> str:
        """Return the key of the base model, which is noted; of a crosscoder over snapshots it has no step."""
        making, word = self.making, self.known("model") or self.making.given.model
        if word is None:
            making.account.lack("model", self.row.id)
            return "model"
        name = making.given.models.get(word, word)
        parts = {"model_revision": "revision"} | ({} if many else {"model_step": "step"})
        known = {into: self.known(field_name) for field_name, into in parts.items()}
        record = {"id": name} | {into: value for into, value in known.items() if value is not None}
        end = f"-step{record['step']}" if "step" in record else ""
        key = _keyed(making.base_models, record, f"{slug(name)}{end}", f"{slug(name.replace('/', '-'))}{end}")
        for field_name, into in parts.items():
            self.take(field_name, f"/base_models/{key}/{into}")
        said, inferred = self.row.said.get("model"), self.row.inferred.get("model")
        if said:
            making.account.move(said.leaf, f"/base_models/{key}/id", name)
        if not said or name != word:
            because = inferred.because if inferred and not said and name == word else "--model"
            making.account.suppose(f"/base_models/{key}/id", name, because)
        return key

    def site(self, name: str, as_field: str, *, many: bool = False) -> str:
        """Return the key of a site, which is noted."""
        model = self.model(many=many)
        if name == "hook" and (parameter := self.known("parameter")):
            record = {"model": model, "stream": "parameter", "parameter": parameter}
            key = _keyed(self.making.sites, record, slug(str(parameter)), f"{model}.{slug(str(parameter))}")
            self.take("parameter", f"/sites/{key}/parameter")
            return key
        found = self._hook(name, model)
        if found is None:
            self.making.account.lack(as_field, self.row.id)
            return as_field
        record, own = found, slug(str(found.get("hook_name") or found["module"]))
        key = _keyed(self.making.sites, record, own, f"{model}.{own}")
        for field_name, into in ((name, "hook_name" if "hook_name" in record else "module"), ("layer", "layer")):
            if field_name == "layer" or self.known(name):
                self.take(field_name, f"/sites/{key}/{into}")
        for into, because in (("hook_name", "--site"), ("module", "--module")):
            if into in record and not self.known(name):
                self.making.account.suppose(f"/sites/{key}/{into}", record[into], because)
        if (said := self.row.said.get("hook_text")) is not None and name == "hook":
            self.making.account.move(said.leaf, f"/sites/{key}/reason", record["reason"])
        why = "--stream" if self.making.given.stream else f"site: {record.get('hook_name') or record['module']}"
        self.making.account.suppose(f"/sites/{key}/stream", record["stream"], why)
        return key

    def _hook(self, name: str, model: str) -> dict[str, Any] | None:
        """Return the record of a site that reads activations; None where nothing names it."""
        given, layer, own = self.making.given, self.known("layer"), self.known(name)
        texts = {"hook_name": given.site, "module": given.module} if own is None and name == "hook" else {}
        if own is not None:
            texts = {"hook_name" if own.startswith(("blocks.", "hook_")) else "module": own}
        named = {into: text for into, text in texts.items() if text}
        if not named or (layer is None and any("{layer}" in text for text in named.values())):
            return None
        named = {into: text.replace("{layer}", str(layer)) for into, text in named.items()}
        stream = given.stream or _stream(" ".join(named.values()))
        if stream is None:
            self.making.account.lack("stream", self.row.id)
        text = self.row.get("hook_text") if name == "hook" else None
        reason = f"the inventory says: {text}" if text else None
        record = {"model": model, "layer": layer, "stream": stream, **named, "reason": reason}
        return {into: value for into, value in record.items() if value is not None}

    def _claims(self) -> list[dict[str, Any]]:
        account, claims = self.making.account, list[dict[str, Any]]()
        for number in self.row.metrics:
            metric = self.making.given.metrics.get(number.name) or number.metric
            if metric is None:
                account.refuse(number.leaf, f"no definition; --metric {shlex.quote(number.name)}=DEFINITION says one")
                continue
            into = f"{self.pointer}/claims/{len(claims)}"
            if number.metric is None:
                account.suppose(f"{into}/metric", metric, f"--metric {number.name}={metric}")
            if number.kind is None:
                account.suppose(f"{into}/kind", "recomputed", f"nothing in {number.leaf.key} speaks of training")
            claim = {"metric": metric, "value": number.value, "kind": number.kind, "rows": self.row.get("rows")}
            claims.append({name: value for name, value in claim.items() if value is not None})
            account.move(number.leaf, f"{into}/value", number.value)
        if claims and (rows := self.row.said.get("rows")):
            account.move(rows.leaf, f"{self.pointer}/claims/0/rows", rows.value)
        return claims

    def _checkpoint(self) -> dict[str, Any] | None:
        path, digest = self.row.said.get("source_checkpoint"), self.row.said.get("source_sha256")
        if path is None:
            return None
        if digest is None or path_problem(path.value):
            why = path_problem(path.value) or "a source checkpoint needs its sha256, which is not there"
            self.making.account.refuse(path.leaf, why)
            return None
        for said, into in ((path, "path"), (digest, "sha256")):
            self.making.account.move(said.leaf, f"{self.pointer}/source_checkpoint/{into}", said.value)
        return {"path": path.value, "sha256": digest.value}


def _stream(name: str) -> str | None:
    return next((stream for pattern, stream in STREAMS if re.search(pattern, name)), None)


def _keyed(table: dict[str, dict[str, Any]], record: dict[str, Any], *names: str) -> str:
    """Return the key under which a record stands in a table, and put it there: the first that no other record has."""
    names = tuple(name[:110] for name in names)
    numbered = (f"{names[-1]}-{number}" for number in itertools.count(2))
    return next(key for key in itertools.chain(names, numbered) if table.setdefault(key, record) == record)
