"""How the rows of a site are captured again: in words, and as code that runs with transformers."""

from saereg.registry.cards.front_matter import is_hub_id
from saereg.registry.cards.marking import code, joined, text
from saereg.registry.cards.recipes import literal
from saereg.schemas.evaluation import Evaluation, ParameterRows, Preprocess, TokenRows
from saereg.schemas.manifest import Manifest
from saereg.schemas.site import BaseModelRef, Site

IN_A_LINE = 12
"""Steps that stand in a line of the code, at most."""

MATRICES = {"W_U": "get_output_embeddings", "W_E": "get_input_embeddings"}
"""Parameter → what gives its module, whatever a model calls it."""

PREPROCESSED: dict[Preprocess, str] = {
    "none": "",
    "center": "the mean row is taken off at each source",
    "scale": "at each source the rows are multiplied by one number, so that the mean of ‖x‖² is their width",
    "center_scale": "at each source the mean row is taken off, and the rows are multiplied by one number, so that the "
    "mean of ‖x‖² is their width",
}
"""What is done to the rows of an evaluation before any dictionary sees them."""


def capture(site_key: str, manifest: Manifest, evaluation: Evaluation | None = None) -> tuple[list[str], str | None]:
    """Return how to get the rows of a site: sentences in Markdown, and code that runs; None where none can be given.

    Args:
        site_key: key of the site in the manifest.
        manifest: the claims.
        evaluation: the data that is meant, where a site has several: of parameters it says which steps, and what is
            done to the rows. Default: the first evaluation of the site.
    """
    site = manifest.sites.get(site_key)
    if site is None:
        return [], None
    model = manifest.base_models.get(site.model)
    used = evaluation or _evaluation_at(site_key, manifest)
    if site.stream == "parameter":
        rows = used if isinstance(used, ParameterRows) else None
        return [_model_words(site, model), *_parameter_words(site, rows)], _parameter_code(site, model, rows)
    words = [_model_words(site, model), *_module_words(site, model), *_token_words(manifest)]
    dtype = used.model_dtype if isinstance(used, TokenRows) else "float32"
    excluded = manifest.tokens.excluded if manifest.tokens else ()
    found = _module_code(site, model, dtype, without_special="special" in excluded)
    return words, found if site.module else _hook_code(site, model)


def _evaluation_at(site_key: str, manifest: Manifest) -> Evaluation | None:
    kinds = (ParameterRows, TokenRows)
    found = [one for one in manifest.evaluations.values() if one.site == site_key and isinstance(one, kinds)]
    return found[0] if found else None


def _model_words(site: Site, model: BaseModelRef | None) -> str:
    if model is None:
        return f"The model is {code(site.model)}."
    facts = [f"step {model.step:,} of its pretraining"] if model.step is not None else []
    facts += [f"commit {code(model.revision)}"] if model.revision else []
    facts += [f"weights with sha256 {code(model.weights_sha256)}"] if model.weights_sha256 else []
    pinned = f", {', '.join(facts)}" if facts else ", of which no revision is stated"
    alone = (
        "" if is_hub_id(model.id) else " It is no name of a repository on the Hub: put the folder of your copy there."
    )
    return f"The model is {code(model.id)}{pinned}.{alone}"


def _module_words(site: Site, model: BaseModelRef | None) -> list[str]:
    words = []
    if site.module:
        words.append(f"The rows are the {site.io} of transformers' module {code(site.module)}.")
    if site.hook_name:
        words.append(f"In TransformerLens the hook {code(site.hook_name)} is there.")
    if site.post_final_norm:
        words.append("This is on purpose the state *behind* the final norm of the model.")
    if site.hidden_states_index is not None:
        words.append(f"Of transformers' `hidden_states`, entry {site.hidden_states_index} is the same tensor.")
    elif _is_last(site, model):
        words.append(
            "The last entry of transformers' `hidden_states` is **not** this tensor: it is behind the final norm. "
            "Capture with a hook."
        )
    if site.reason:
        words.append(f"{text(site.reason[:1].upper() + site.reason[1:])}.".replace("..", "."))
    return words


def _is_last(site: Site, model: BaseModelRef | None) -> bool:
    """Whether a site is the output of the last layer of a model with a norm behind it."""
    if model is None or site.layer is None or model.n_layers is None or not model.final_norm:
        return False
    at_end = site.layer + 1 == model.n_layers and site.stream == "residual" and site.io == "output"
    return at_end and not site.post_final_norm


def _token_words(manifest: Manifest) -> list[str]:
    policy = manifest.tokens
    if policy is None:
        return []
    parts = ["a BOS token stands first" if policy.bos else "no BOS token is put first"]
    if policy.separator != "none":
        parts.append(f"a {policy.separator.upper()} token stands between documents")
    if policy.context_size is not None:
        parts.append(f"a context has {policy.context_size:,} tokens")
    if policy.excluded:
        parts.append(f"the rows of {joined([code(name) for name in policy.excluded])} are left out")
    return [f"Of the tokens: {joined(parts)}."]


def _module_code(site: Site, model: BaseModelRef | None, dtype: str, *, without_special: bool) -> str:
    """Return a forward hook at a module, which is looked up in the model without its head, as transformers names it."""
    register = "register_forward_hook(keep)"
    keep = ["def keep(module, args, output):", '    kept["x"] = output[0] if isinstance(output, tuple) else output']
    if site.io == "input":
        register = "register_forward_pre_hook(keep, with_kwargs=True)"
        keep = ["def keep(module, args, kwargs):", '    kept["x"] = args[0] if args else kwargs["hidden_states"]']
    asked = ", return_special_tokens_mask=True" if without_special else ""
    taken = 'batch["attention_mask"].bool()' + (" & ~special" if without_special else "")
    return "\n".join(
        [
            "import torch",
            "from transformers import AutoModel, AutoTokenizer",
            "",
            *_named(site, model),
            "tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)",
            f"model = AutoModel.from_pretrained(name, revision=revision, dtype=torch.{dtype}).eval()",
            "kept = {}",
            "",
            *keep,
            "",
            f'path = {literal(site.module or "")}.removeprefix(model.base_model_prefix + ".")',
            f"hook = model.get_submodule(path).{register}",
            f'batch = tokenizer("The quick brown fox", return_tensors="pt"{asked})',
            *(['special = batch.pop("special_tokens_mask").bool()'] if without_special else []),
            "with torch.inference_mode():",
            "    model(**batch)",
            "hook.remove()",
            f'x = kept["x"][{taken}]  # (tokens, width)',
        ]
    )


def _named(site: Site, model: BaseModelRef | None) -> list[str]:
    lines = [f"name = {literal(model.id if model else site.model)}"]
    return [*lines, f"revision = {literal(model.revision)}" if model and model.revision else "revision = None"]


def _hook_code(site: Site, model: BaseModelRef | None) -> str | None:
    """Return the same for a site that only TransformerLens names."""
    if not site.hook_name:
        return None
    hook = literal(site.hook_name)
    return "\n".join(
        [
            "from transformer_lens import HookedTransformer",
            "",
            *_named(site, model),
            "model = HookedTransformer.from_pretrained_no_processing(name, revision=revision)",
            f'_, cache = model.run_with_cache("The quick brown fox", names_filter={hook})',
            f"x = cache[{hook}].flatten(0, 1)  # (tokens, width)",
        ]
    )


def _parameter_words(site: Site, rows: ParameterRows | None) -> list[str]:
    words = [f"The rows are those of the parameter {code(site.parameter)}: one of each entry of the vocabulary."]
    if rows is None:
        return words
    words[0] += f" In the checkpoints it is the tensor {code(rows.tensor)}, ({rows.rows:,}, width)."
    if len(rows.steps) > 1:
        words.append(
            f"Row i is entry i at all {len(rows.steps)} snapshots, step {rows.steps[0]:,} to {rows.steps[-1]:,}, whose "
            f"revisions are named {code(rows.revision)}."
        )
    else:
        words.append(f"The revision is {code(rows.revision.replace('{step}', str(rows.steps[0])))}.")
    if PREPROCESSED[rows.preprocess]:
        words.append(f"Before any dictionary reads them, {PREPROCESSED[rows.preprocess]}.")
    return words


def _parameter_code(site: Site, model: BaseModelRef | None, rows: ParameterRows | None) -> str | None:
    if rows is None:
        return _matrix_code(site, model)
    several = len(rows.steps) > 1
    revision = 'revision.replace("{step}", str(step))' if "{step}" in rows.revision else "revision"
    lines = [
        "import torch",
        "from transformers import AutoModelForCausalLM",
        "",
        f"name = {literal(model.id if model else site.model)}",
        f"revision = {literal(rows.revision)}",
        *_steps(rows.steps),
        "x = []",
        "for step in steps:",
        f"    at = {revision}",
        "    model = AutoModelForCausalLM.from_pretrained(name, revision=at, dtype=torch.float32)",
        f"    x.append({_matrix(site, rows.tensor)}.detach().double())",
        "x = torch.stack(x, dim=1)  # (vocabulary, snapshots, width)" if several else "x = x[0]  # (vocabulary, width)",
        *_preprocessing(rows.preprocess),
        "x = x.float()",
    ]
    return "\n".join(lines)


def _matrix(site: Site, tensor: str) -> str:
    """Return what gives a parameter of a model; transformers may call it otherwise than the files of a checkpoint."""
    known = MATRICES.get(site.parameter or "")
    return f"model.{known}().weight" if known else f"model.get_parameter({literal(tensor)})"


def _matrix_code(site: Site, model: BaseModelRef | None) -> str | None:
    """Return the same where no evaluation names the tensor: transformers knows the two matrices by what they do."""
    if site.parameter not in MATRICES:
        return None
    return "\n".join(
        [
            "from transformers import AutoModelForCausalLM",
            "",
            *_named(site, model),
            "model = AutoModelForCausalLM.from_pretrained(name, revision=revision)",
            f"x = {_matrix(site, '')}.detach().float()  # (vocabulary, width)",
        ]
    )


def _steps(steps: tuple[int, ...]) -> list[str]:
    if len(steps) <= IN_A_LINE:
        return [f"steps = [{', '.join(map(str, steps))}]"]
    lines = [steps[i : i + IN_A_LINE] for i in range(0, len(steps), IN_A_LINE)]
    return ["steps = [", *(f"    {', '.join(map(str, line))}," for line in lines), "]"]


def _preprocessing(preprocess: Preprocess) -> list[str]:
    lines = ["x = x - x.mean(dim=0)"] if preprocess in ("center", "center_scale") else []
    if preprocess in ("scale", "center_scale"):
        mean_square = "x.square().sum(dim=-1, keepdim=True).mean(dim=0)"
        lines.append(f"x = x * (x.shape[-1] / {mean_square}).sqrt()")
    return lines
