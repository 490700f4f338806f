"""What registries of others need from a release: one emitter for each, none of which invents a value."""

from collections.abc import Callable
from dataclasses import dataclass

from saereg.registry.emitting import circuit_tracer, neuronpedia, saelens_yaml
from saereg.registry.emitting.emitted import Emitted, Wishes
from saereg.registry.emitting.subject import Subject


@dataclass(frozen=True)
class Emitter:
    """One registry of others.

    Attributes:
        what: what is written.
        when: what has to be in a release for it.
        emit: what writes it.
    """

    what: str
    when: str
    emit: Callable[[Subject, Wishes], Emitted]


EMITTERS: dict[str, Emitter] = {
    "saelens-yaml": Emitter(
        "the entry of SAELens' pretrained_saes.yaml, for a pull request",
        "SAEs and transcoders in the layout saelens, on activations of a hook",
        saelens_yaml.emit,
    ),
    "neuronpedia": Emitter(
        "a stub of release, source sets and sources, as JSON",
        "SAEs and transcoders on a hook of a layer",
        neuronpedia.emit,
    ),
    "circuit-tracer": Emitter(
        "config.yaml of a set of transcoders",
        "one transcoder for each layer from 0 on, converted to circuit_tracer",
        circuit_tracer.emit,
    ),
}
"""Name → emitter."""

__all__ = ["EMITTERS", "Emitted", "Emitter", "Subject", "Wishes"]
