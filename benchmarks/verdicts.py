"""The README's table of what generative models bring: questions, what was measured, and what follows from it.

Each row is read from a result of `benchmarks/results`; `readme_table.py` writes the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["HEAD", "ROWS"]

Row = dict[str, tuple[str, str, str]]
"""What was asked, what was measured, what follows; by language."""

HEAD = {
    "en": "| Does it help? | measured | so |\n| --- | --- | --- |",
    "zh": "| 有用吗？ | 测量结果 | 因此 |\n| --- | --- | --- |",
}


_SEQUENCES, _SEQUENCES_ZH = "docs/sequences.md", "docs/sequences.zh-CN.md"


def augmentation(figures: dict[str, Any]) -> Row:
    names = {"vae-filtered": ("VAE", "VAE"), "gan-filtered": ("GAN", "GAN"), "duplicates": ("copies", "复制真图")}
    verdicts = figures["verdicts"]
    told: dict[str, list[str]] = {"en": [], "zh": []}
    for setting in figures["study"]["settings"]:
        share = setting.replace("%", " %")
        here = [one for one in verdicts if one["setting"] == setting and one["arm"] in names]
        for language, place, comma in (("en", 0, ", "), ("zh", 1, "，")):
            of = {"en": f"of {share} ", "zh": f"{share} 数据 "}[language]
            told[language].append(of + comma.join(f"{names[one['arm']][place]} {points(one)}" for one in here))
    seeds = min(one["seeds"] for one in verdicts)
    helps = any(one["holds"] for one in verdicts if one["arm"].endswith("-filtered"))
    return {
        "en": (
            f"generated faces as training data (`mien augment`; FER+, against balanced real faces, {seeds} seeds)",
            f"macro-F1, points: {'; '.join(told['en'])}",
            "[yes](docs/augmentation.md)" if helps else "[not shown](docs/augmentation.md): off",
        ),
        "zh": (
            f"生成的人脸作训练数据（`mien augment`；FER+，对照为类别均衡的真实人脸，{seeds} 个种子）",
            f"macro-F1，百分点：{'；'.join(told['zh'])}",
            "[有用](docs/augmentation.zh-CN.md)" if helps else "[未见作用](docs/augmentation.zh-CN.md)，默认关闭",
        ),
    }


SPOILT_ZH = {
    "clean": "未损坏",
    "3 times smaller, noise 8": "缩小到三分之一并加噪声 8",
    "4 times smaller, noise 8": "缩小到四分之一并加噪声 8",
    "blurred": "模糊",
    "noise 40": "噪声 40",
    "JPEG of quality 5": "质量 5 的 JPEG",
    "30 % covered": "遮住 30 %",
}
"""The conditions of `mien.studies.spoilt`."""


def settings_by_condition(figures: dict[str, Any]) -> dict[str, str]:
    """Return the setting of each condition of a study of restoration, as the recogniser saw it that was named first.

    With several recognisers a setting is "condition, recogniser".
    """
    found: dict[str, str] = {}
    for setting in figures.get("study", {}).get("settings", ()):
        condition = next(name for name in SPOILT_ZH if setting == name or setting.startswith(f"{name}, "))
        found.setdefault(condition, setting)
    return found


def restoration(figures: dict[str, Any]) -> Row:
    """Say where the tool that the study asks about helps, by the planned verdicts; nothing where none was reached."""
    verdicts = figures.get("verdicts", ())
    tool = verdicts[0]["arm"] if verdicts else ""
    by_setting = {one["setting"]: one for one in verdicts if one["arm"] == tool}
    settings = settings_by_condition(figures).items()
    asked = {name: by_setting[setting] for name, setting in settings if setting in by_setting}
    spoilt = {name: one for name, one in asked.items() if name != "clean"}
    if not spoilt:
        return {}
    helps = [name for name, one in spoilt.items() if one["holds"]]
    hurts = [name for name, one in asked.items() if one["interval"][1] < 0]
    pairs = figures["test_items"]
    return {
        "en": (
            f"restoring a spoilt face before it is recognised (`mien restore`; LFW, {pairs} pairs)",
            f"mates found at FMR 1 %, points gained by `{tool}`: "
            + "; ".join(f"{name} {points(one)}" for name, one in spoilt.items()),
            _restoring_follows("en", helps, hurts, len(spoilt)),
        ),
        "zh": (
            f"先修复损坏的脸再识别（`mien restore`；LFW，{pairs} 对）",
            f"FMR 1 % 时找到的同人对，`{tool}` 增加的百分点："
            + "；".join(f"{SPOILT_ZH[name]} {points(one)}" for name, one in spoilt.items()),
            _restoring_follows("zh", helps, hurts, len(spoilt)),
        ),
    }


def _restoring_follows(language: str, helps: list[str], hurts: list[str], of: int) -> str:
    """Say what follows, in a language: where it helps, and where it does harm."""
    some, all_, none, harm, comma = {
        "en": (
            "[yes](docs/restoration.md) for {}; otherwise not shown: off", "[yes](docs/restoration.md)",
            "[not shown](docs/restoration.md): off", "; it harms: {}", "; ",
        ),
        "zh": (
            "[对{} 有用](docs/restoration.zh-CN.md)；其他未见作用，默认关闭", "[有用](docs/restoration.zh-CN.md)",
            "[未见作用](docs/restoration.zh-CN.md)，默认关闭", "；有害：{}", "、",
        ),
    }[language]  # fmt: skip
    helped, hurt = (
        comma.join(name if language == "en" else SPOILT_ZH[name] for name in names) for names in (helps, hurts)
    )
    so = none if not helps else all_ if len(helps) == of else some.format(helped)
    return so + (harm.format(hurt) if hurts else "")


def anonymize(figures: dict[str, Any]) -> Row:
    made = next(row for row in figures["rows"] if row["mode"] == "generate")
    still, kept = made["still_matching"]["sface"], made["expression_kept"]["mini-xception"]
    keeps = kept["interval"][0] > 0.5
    text = f"{100 * still['share']:.0f} % [{100 * still['interval'][0]:.0f}, {100 * still['interval'][1]:.1f}]"
    return {
        "en": (
            "a generated face instead of one's own (`mien anonymize`)",
            f"still matching at FMR 1e-3: {text} of {still['n']}; expression kept: {100 * kept['share']:.0f} %",
            "[it hides](docs/privacy.md)" + ("" if keeps else ", and loses the expression half of the time"),
        ),
        "zh": (
            "用生成的脸代替本人的脸（`mien anonymize`）",
            f"FMR 1e-3 时仍匹配：{still['n']} 张中的 {text}；表情保留：{100 * kept['share']:.0f} %",
            "[藏得住](docs/privacy.zh-CN.md)" + ("" if keeps else "，但一半时候失去表情"),
        ),
    }


def vae_features(figures: dict[str, Any]) -> Row:
    def accuracy(features: str, share: float) -> str:
        rows = figures["expression"]["scores"]
        (row,) = [r for r in rows if (r["features"], r["method"], r["share"]) == (features, "linear", share)]
        return f"{100 * row['accuracy']:.0f}"

    names = ("expression-vae-48, latent means", "pixels, 32 px", "expression-resnet27")
    few, all_ = ("/".join(accuracy(name, share) for name in names) for share in (0.01, 1.0))
    return {
        "en": (
            "a VAE's latents as features of expressions (`mien encode`)",
            f"accuracy of a linear classifier on latents/pixels/features of our network, %: {few} with 32 labels, "
            f"{all_} with all",
            "[only with very few labels](docs/generation.md), and less than a trained network",
        ),
        "zh": (
            "用 VAE 的潜变量作表情特征（`mien encode`）",
            f"线性分类器在潜变量/像素/我们的网络特征上的准确率，%：32 个标签 {few}，全部标签 {all_}",
            "[只在标签极少时](docs/generation.zh-CN.md)，且不如训练好的网络",
        ),
    }


def few_shot(figures: dict[str, Any]) -> Row:
    rows = {row["arm"]: row for row in figures["half_b"]["rows"] if row["setting"] == "1 reference"}
    learned, classical = (figures["chosen_on_half_a"][name] for name in ("best_learned", "best_classical"))

    def fewer(arm: str) -> str:
        row = rows[arm]
        low, high = row["fewer_misses_interval"]
        return f"{100 * row['fewer_misses']:+.0f} % [{round(100 * low)}, {round(100 * high)}]"

    helps = any(one["holds"] for one in figures["half_b"]["verdicts"])
    plain = f"{100 * rows['plain']['fnir']:.1f} %"
    return {
        "en": (
            "one picture of a person, varied (`mien enroll --simulate`; half B of CelebA's people)",
            f"missed at FPIR 1 %: {plain}; fewer misses with `{classical}` {fewer(classical)}, with `{learned}` "
            f"{fewer(learned)}, with faces of a GAN {fewer('generated')}",
            "[yes](docs/few_shot.md)" if helps else "[not shown](docs/few_shot.md): off; a second picture helps",
        ),
        "zh": (
            "一人只有一张图片时加入变化（`mien enroll --simulate`；CelebA 身份的 B 半）",
            f"FPIR 1 % 时的漏检 {plain}；减少的漏检：`{classical}` {fewer(classical)}，`{learned}` {fewer(learned)}，"
            f"GAN 生成的脸 {fewer('generated')}",
            "[有用](docs/few_shot.zh-CN.md)"
            if helps
            else "[未见作用](docs/few_shot.zh-CN.md)，默认关闭；第二张真图才有用",
        ),
    }


def sequence(figures: dict[str, Any]) -> Row:
    tasks = figures["tasks"]

    def against(task: str, other: str) -> list[dict[str, Any]]:
        return [one for one in tasks[task]["verdicts"] if (one["arm"], one["against"]) == ("gru", other)]

    shuffled, two = (
        "; ".join(points(one) for one in against("onset", name)) for name in ("gru-shuffled", "difference")
    )
    last = next(points(one) for one in against("stills", "last") if one["setting"] == "vae")
    people = tasks["onset"]["test_groups"]
    sees = all(one["holds"] for one in against("onset", "gru-shuffled"))
    wins = all(one["holds"] for one in against("onset", "difference"))
    return {
        "en": (
            "the order of frames, VAE + GRU (`mien train sequence`; rendered motion, the other renderer, "
            f"{people} people)",
            f"onset or offset, points: over shuffled frames {shuffled}; over the last frame less the first {two}; "
            f"CK+'s own frames, over the last one {last}",
            f"[order is seen]({_SEQUENCES}){'' if wins else ', two frames see it as well: none ships'}"
            if sees
            else f"[not shown]({_SEQUENCES})",
        ),
        "zh": (
            f"帧的次序，VAE + GRU（`mien train sequence`；渲染的动作，另一种渲染方法，{people} 人）",
            f"起始还是结束，百分点：比打乱的帧 {shuffled}；比末帧减首帧 {two}；CK+ 自己的帧，比最后一帧 {last}",
            f"[看得出次序]({_SEQUENCES_ZH}){'' if wins else '，但两帧也看得出：不随附网络'}"
            if sees
            else f"[未见作用]({_SEQUENCES_ZH})",
        ),
    }


def points(one: dict[str, Any]) -> str:
    low, high = (100 * end for end in one["interval"])
    return f"{100 * one['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"


ROWS: dict[str, Callable[[dict[str, Any]], Row]] = {
    "augmentation": augmentation,
    "few_shot": few_shot,
    "restoration": restoration,
    "anonymize": anonymize,
    "vae_features": vae_features,
    "sequence": sequence,
}
"""By the file of the result."""
