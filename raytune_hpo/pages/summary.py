"""A run in sentences: what was searched, what won, how sure that is, what it cost, what mattered, what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raytune_hpo.display.summary import duration, shown_config, shown_value
from raytune_hpo.figures.panel import short
from raytune_hpo.pages.tables import common
from raytune_hpo.results.advice import MIN_TRIALS
from raytune_hpo.results.text_table import plural
from raytune_hpo.space.configs import config_key

Document = Mapping[str, Any]
CAUSES = 3  # of failure, that are named
ERROR = 300  # characters of an error, in a sentence


def summary(found: Document) -> list[dict[str, str]]:
    """topic and text, in the order in which they are read."""
    told = ((topic, of_it(found)) for topic, of_it in SENTENCES)
    return [{"topic": topic, "text": text} for topic, text in told if text]


def _searched(found: Document) -> str:
    run = found["run"]
    parameters = len(found["space"]["parameters"])
    aim = "highest" if run["mode"] == "max" else "lowest"
    data = ""
    if run["train_samples"] is not None:
        data = f" ({run['train_samples']:,} training and {run['validation_samples']:,} validation samples)"
    task = f" (task {run['task']})" if run["task"] else ""
    were = "was" if found["cost"]["trials"] == 1 else "were"
    return (
        f"{plural(found['cost']['trials'], 'config')} of {plural(parameters, 'parameter')} {were} tried for the {aim} "
        f"{run['metric']}{task}{data}: searcher {run['searcher']}, scheduler {run['scheduler']}, up to "
        f"{plural(run['max_epochs'], 'epoch')} each, seed {run['seed']}."
    )


def _state(found: Document) -> str:
    run, counts = found["run"], found["cost"]["counts"]
    listed = ", ".join(f"{n} {status}" for status, n in counts.items() if n) or "no trials"
    reason = f" ({run['stop_reason']})" if run["stop_reason"] else ""
    text = f"{run['status'].capitalize()}{reason}: {listed}."
    if run["close_reason"]:
        text += f" It stopped by itself: {short(run['close_reason'], ERROR)}."
    if run["damage"]:
        text += f" The journal's end was damaged, and is left out: {run['damage']}."
    if run["amendments"]:
        text += f" It was amended: {'; '.join(run['amendments'])}."
    if run["evidence"]:
        told = "; ".join(f"{count} configs of {source}" for source, count in run["evidence"].items())
        text += f" Its searcher was told of other runs: {told}."
    if run["code_versions"] > 1:
        text += f" {run['code_versions']} versions of the code trained these trials, which are ranked together."
    return text


def _won(found: Document) -> str:
    best, metric, status = found["best"], found["run"]["metric"], found["run"]["status"]
    if best is None and found["cost"]["epochs"]:
        return f"No trial has won: those that reported failed, diverged, or had no finite {metric}."
    if best is None:
        return "No trial has reported." if status == "finished" else "No trial has reported yet."
    won = "won" if status == "finished" else "leads"
    text = f"{best['trial_id']} {won} with {metric} {_figure(best['metric'])} at epoch {best['epoch']}"
    second = best["runner_up"]
    if second is not None:
        by = "" if best["margin"] is None else f"{_figure(best['margin'])} "
        behind = "level with" if best["margin"] == 0 else f"{by}better than"
        text += f", {behind} the next best, {second['trial_id']}"
    first = first_of(found["verdicts"]["confirmed"])
    if first is not None and first != best["trial_id"]:
        text = f"In the search {text}; in its confirmation {first} is first"
    return (
        f"{text}. The config of {best['trial_id']}: {shown_config(best['config'], found['space']).replace('  ', ', ')}."
    )


def _sure(found: Document) -> str:
    best, confirmed = found["best"], found["verdicts"]["confirmed"]
    if best is None:
        return ""
    if confirmed is not None and "damaged" not in confirmed:
        later = confirmed["searched_best"] != best["trial_id"]
        since = f" Since then the search has found a better one, {best['trial_id']}, which is not confirmed."
        return _confirmed(confirmed) + (since if later else "")
    if configs_to_confirm(found) < 2:
        return ""
    noise = next((one["text"] for one in found["advice"] if one["kind"] == "noise"), None)
    if noise is not None:
        return f"Not confirmed yet: {noise}."
    return (
        "Not confirmed yet: the best of many is partly the luckiest of many. `raytune-hpo confirm` trains the best "
        "configs again from fresh seeds, and says by how much they differ beyond noise."
    )


def first_of(confirmed: Document | None) -> str | None:
    """The trial that a confirmation puts first; None without one, and where it says that nothing is to be had."""
    if confirmed is None or "damaged" in confirmed or confirmed["verdict"] == "none" or not confirmed["configs"]:
        return None
    return str(confirmed["configs"][0]["trial"])


def configs_to_confirm(found: Document) -> int:
    """How many configs there are to compare; 0 in a run that repeats given ones."""
    if found["run"]["searcher"] == "repeat":
        return 0
    rows = [row for row in found["trials"] if row["best"] is not None and row["status"] not in ("failed", "diverged")]
    return len({config_key(row.get("best_config", row["config"])) for row in rows})


def _confirmed(confirmed: Document) -> str:
    first = confirmed["configs"][0] if confirmed["configs"] else {"mean": None}
    mean = first["mean"]
    seeds = plural(confirmed["seeds"], "repetition")
    text = f"Confirmed with {seeds} of the best {plural(len(confirmed['configs']), 'config')}: "
    if confirmed["verdict"] == "winner":
        text += f"{confirmed['winner']} is best, {confirmed['reason']}"
    elif confirmed["verdict"] == "tie":
        text += f"a tie of {', '.join(confirmed['tied'])}, {confirmed['reason']}"
    else:
        text += f"no winner, {confirmed['reason']}"
    if mean:
        text += (
            f". {first['trial']} has a mean {confirmed['metric']} of {_figure(mean['estimate'])} (95 % interval "
            f"{_figure(mean['low'])} to {_figure(mean['high'])}), where the search had said "
            f"{_figure(first['searched'])}"
        )
    return text + "."


def _tested(found: Document) -> str:
    opened = found["verdicts"]["openings"]
    if not isinstance(opened, list):
        return f"The record of the test split cannot be read: {opened['damaged']}."
    if not opened:  # (a trainable of one's own has none that is known)
        sealed = found["best"] and found["run"]["train_samples"] is not None
        return "The test split is sealed: nobody has looked at it." if sealed else ""
    best = found["best"]
    text = ""
    if best is not None and best["test"]:
        figures = ", ".join(f"{name} {_figure(value)}" for name, value in best["test"].items() if value is not None)
        text = f"On the test split {best['trial_id']} has {figures or 'no finite figure: it may be empty'}. "
    twice = " one of them for a second time" if any(own["again"] for own in opened) else ""
    often = "once" if len(opened) == 1 else f"{len(opened)} times"
    return f"{text}It was opened {often}{twice and ',' + twice}, for {_purposes(opened)}."


def _purposes(opened: list[Document]) -> str:
    return ", ".join(dict.fromkeys(str(own["purpose"]) for own in opened))


def _cost(found: Document) -> str:
    cost = found["cost"]
    if not cost["trials"]:
        return ""
    text = f"It took {_duration(cost['wall_s'])}"
    if cost["workers"]:
        text += f" on {plural(cost['workers'], 'worker')}, up to {plural(cost['most_at_once'], 'trial')} at a time"
    text += f": {cost['epochs']:,} epoch{'s' * (cost['epochs'] != 1)}, {_hours(cost['cpu_hours'], 'CPU')} of training"
    if cost["gpu_hours"]:
        text += f" and {_hours(cost['gpu_hours'], 'GPU')}"
    if found["run"]["sessions"] > 1:
        text += f", in {found['run']['sessions']} sessions"
    if cost["saved"]:
        whole = cost["saved"] + cost["epochs"]
        share = f"{cost['saved_share']:.0%}; those that failed or diverged would have gone no further"
        text += f". Stopping trials early spared {cost['saved']:,} of {whole:,} epochs ({share})"
    return text + "."


def _hours(hours: float, what: str) -> str:
    return f"{hours:.3g} {what} hours" if hours >= 0.1 else f"{hours * 3600:.3g} {what} seconds"


def _mattered(found: Document) -> str:
    told = found["importance"]
    if not told["can_tell"]:
        return f"{sentence(told['verdict'])}."
    top = [entry for entry in told["parameters"] if entry["share"] >= 0.05][:3] or told["parameters"][:1]
    named = [f"{entry['name']} explains {entry['share']:.0%} ± {entry['deviation']:.0%}" for entry in top]
    listed = ", ".join([named[0], *(one.replace(" explains", "") for one in named[1:])])
    theirs = list(told["ped_anova"]["parameters"])
    other = f" Among the best trials alone it was {theirs[0]} (PED-ANOVA)." if theirs else ""
    return f"Over all the space {listed} of how the trials rank. {sentence(told['verdict'])}.{other}"


def _failed(found: Document) -> str:
    causes = found["failures"]
    if not causes:
        return "No trial failed or diverged." if found["cost"]["trials"] else ""
    count = sum(cause["count"] for cause in causes)
    told = []
    for cause in causes[:CAUSES]:
        shared = "; ".join(common(cause)[:2])
        why = f"{cause['count']} {cause['status']}: {short(cause['text'], ERROR)}"
        told.append(f"{why}, all with {shared}" if shared else why)
    more = len(causes) - CAUSES
    others = f". {plural(more, 'other cause')} below" if more > 0 else ""
    return f"{plural(count, 'trial')} failed or diverged. {'. '.join(told)}{others}."


def _advised(found: Document) -> str:
    told = [f"{sentence(one['text'])}." for one in found["advice"] if one["kind"] != "noise"]
    finished = sum(found["cost"]["counts"][status] for status in ("completed", "stopped"))
    if finished >= MIN_TRIALS and all(one["kind"] != "border" for one in found["advice"]):
        told.append("At no end of a parameter's range do the best trials crowd.")
    return " ".join(told)


def _next(found: Document) -> str:
    told = [f"`{own['command']}` {own['does']}" for own in found["commands"][:2]]
    return f"{'; then '.join(told)}."


def sentence(text: str) -> str:
    """With a capital, unless it begins with a name."""
    first = text.partition(" ")[0]
    return text[0].upper() + text[1:] if first.isalpha() else text


def _duration(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.3g} s"


def _figure(value: Any) -> str:
    return shown_value(value) if not isinstance(value, float) else f"{value:.5g}"


SENTENCES: tuple[tuple[str, Callable[[Document], str]], ...] = (
    ("What was searched", _searched),
    ("How it stands", _state),
    ("What won", _won),
    ("How sure that is", _sure),
    ("On the test split", _tested),
    ("What it cost", _cost),
    ("What mattered", _mattered),
    ("What to set up otherwise", _advised),
    ("What failed", _failed),
    ("What comes next", _next),
)
