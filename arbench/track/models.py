"""Each system as a LoggedModel of MLflow: sizes and weights as params, and the metrics of all its runs linked to it.

A system is an adapter with certain weights. Its files stay where they are: to MLflow it is an external model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import registry
from ..errors import ArbenchError
from ..spec.card import Card
from ..spec.result import Result
from . import record

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

IDENTITY = "arbench.model"
"""The tag by which a model is found again."""
KINDS = ("generator", "tokenizer")
UNKNOWN = frozenset({"ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED"})
"""What a server without LoggedModels (before MLflow 3) answers."""


def weights(result: Result) -> dict[str, str]:
    """Digest by adapter name of the weights that make the system: its own and its tokenizer's."""
    known = result.provenance.weights if result.provenance else {}
    return {name: sha for name, sha in known.items() if name == result.adapter or name.startswith("tokenizers/")}


def identity(result: Result) -> str:
    """What results of one system share: adapter, weights, and whether these are random."""
    parts = [result.adapter, *(f"{name} {sha}" for name, sha in sorted(weights(result).items()))]
    parts += ["random weights"] if result.load.get("init") == "random" else []
    return "; ".join(parts)[: record.TAG_LIMIT]


def name_of(adapter: str) -> str:
    """As MLflow allows names of models: "raster/var-d16" is "raster-var-d16"."""
    return "".join("-" if letter in "/:.%\"'" else letter for letter in adapter)[: record.KEY_LIMIT]


def params(result: Result) -> dict[str, str]:
    """Sizes and origin of a system from its card, and digests of its weights."""
    found: dict[str, Any] = {"adapter": result.adapter, "family": result.family, "kind": result.kind}
    card = _card(result.adapter)
    if card is not None:
        tokens = card.tokens
        found |= {
            "parameters": card.parameters,
            "resolution": card.resolution,
            "classes": card.classes,
            "tokenizer": card.tokenizer,
            "tokens": tokens.tokens if tokens else None,
            "vocabulary": tokens.vocabulary if tokens else None,
            "trained_on": card.trained_on,
            "source": card.source,
            "code_licence": card.code_licence,
            "weights_licence": card.weights_licence,
        }
    found |= {f"weights.{record.metric_key(name)}": sha for name, sha in weights(result).items()}
    if result.load.get("init") == "random":
        found["weights"] = "random"
    return {name: str(value)[: record.PARAM_LIMIT] for name, value in found.items() if value not in (None, "")}


def _card(adapter: str) -> Card | None:
    """None for an adapter of a package that is not installed here, or that somebody made for the occasion."""
    try:
        return registry.card(adapter)
    except ArbenchError:
        return None


class Models:
    """The LoggedModels of one experiment, each found or made once. A server that has none is told once in `remark`."""

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self._client, self._experiment = client, experiment
        self._known: dict[str, str] = {}
        self.remark = ""

    def of(self, result: Result, run_id: str) -> str | None:
        """The id of the result's model, made with `run_id` as its source where there is none; None for what is no
        system (images of unknown origin, cells that never started), or where the server has no models.
        """
        if result.kind not in KINDS or result.provenance is None or self.remark:
            return None
        key = identity(result)
        if key not in self._known:
            from mlflow.exceptions import MlflowException

            try:
                self._known[key] = self._found(result, key) or self._made(result, key, run_id)
            except MlflowException as error:
                if error.error_code not in UNKNOWN:
                    raise
                self.remark = "the MLflow server has no models (it is older than MLflow 3): only runs are tracked"
                return None
        return self._known[key]

    def _found(self, result: Result, key: str) -> str | None:
        query = f"name = '{name_of(result.adapter)}'"
        token = None
        while True:
            page = self._client.search_logged_models([self._experiment], filter_string=query, page_token=token)
            for model in page:
                if model.tags.get(IDENTITY) == key:
                    return str(model.model_id)
            token = page.token
            if not token:
                return None

    def _made(self, result: Result, key: str, run_id: str) -> str:
        from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

        tags: Mapping[str, str] = {MLFLOW_MODEL_IS_EXTERNAL: "true", IDENTITY: key, "arbench.adapter": result.adapter}
        model = self._client.create_logged_model(
            self._experiment,
            name=name_of(result.adapter),
            source_run_id=run_id,
            tags=dict(tags),
            params=params(result),
            model_type=result.kind,
        )
        self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)
