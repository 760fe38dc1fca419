"""Write the measured tables of the READMEs and of docs/measured from results/*.json.

    python benchmarks/readme_table.py            # rewrite what stands between the markers
    python benchmarks/readme_table.py --check    # status 1 if a page says anything else than the results

The READMEs have the few rows that a user asks for first (`HEADLINES`), docs/measured has all of them (`SECTIONS`).
A result that is not there leaves its rows out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import verdicts

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
VERDICTS = ("<!-- verdicts: begin -->", "<!-- verdicts: end -->")
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
MEASURED = {"en": ROOT / "docs/measured.md", "zh": ROOT / "docs/measured.zh-CN.md"}

CATALOGUE = tomllib.loads((ROOT / "src/mien/zoo/catalogue.toml").read_text(encoding="utf-8"))
DEFAULT_EMBEDDER = CATALOGUE["defaults"]["embedder"]
"""Results of one embedder are those of this one, in `NAME_EMBEDDER.json` or in `NAME.json`."""
IDENTITY_SPACE = "dlib-resnet29"
"""The features in which generated faces were compared with real ones."""
OTHER_EDITS = {
    "flow": {"en": "its flow", "zh": "按其流"},
    "class means": {"en": "class means", "zh": "按类别均值"},
    "class means, searched": {"en": "those, searched", "zh": "按类别均值，搜索强度"},
}
"""What the ways to edit that a model does not take are called."""
EDIT_JUDGES = ("sface", "dlib-resnet29")
"""The embedders that say whether an edited face still matches."""
PUBLISHED_ON_LFW = {"sface": "99.60 %", "dlib-resnet29": "99.38 %"}
"""By embedder, as its authors give it."""

HEAD = {
    "en": "| What was measured | mien | Beside it, in the same run | Result |\n| --- | --- | --- | --- |",
    "zh": "| 测量内容 | mien | 同一次运行中的对照 | 结果文件 |\n| --- | --- | --- | --- |",
}
README_HEAD = {
    "en": "| measured | mien | for comparison |\n| --- | --- | --- |",
    "zh": "| 测量内容 | mien | 对照 |\n| --- | --- | --- |",
}

MACHINE = {
    "en": "On {cores} cores of a shared {cpu}, Python {python}, ONNX Runtime {onnxruntime}. Milliseconds depend on the "
    "machine and on its load; ratios are of one run. Intervals are 95 %, resampling subjects.",
    "zh": "机器：共享的 {cpu}，{cores} 核，Python {python}，ONNX Runtime {onnxruntime}。"
    "毫秒数取决于机器及其负载；比值取自同一次运行。区间为 95 %，按身份重采样。",
}
README_MACHINE = {
    "en": "On {cores} cores of a shared {cpu}. Intervals are 95 %.",
    "zh": "在共享的 {cpu} 的 {cores} 个核上测得。区间为 95 %。",
}

Row = tuple[str, str, str]
Texts = dict[str, Row]
"""What was measured, what mien reached, what it was compared with; by language."""


def percent(rate: float, digits: int = 1) -> str:
    return f"{100 * rate:.{digits}f} %"


def within(interval: list[float], digits: int = 1) -> str:
    return f"[{100 * interval[0]:.{digits}f}, {100 * interval[1]:.{digits}f}]"


def embedder_of(result: dict[str, Any]) -> str:
    """Return the name in an embedder's id, `name-version-digest`."""
    return str(result["embedder"]).rsplit("-", 2)[0]


def speed(result: dict[str, Any]) -> Iterator[Texts]:
    times, ratios = result["times"], result["ratio_p50"]
    peer = f"{times['face_recognition']['p50_ms']:.0f} ms"
    embed = "find and embed one face", "检测加特征提取"
    for name, option, (done, done_zh) in (
        ("auto", "", embed),
        ("fast", " `--detector fast`", embed),
        ("accurate", " `--detector accurate`", embed),
        ("auto_with_expression", "", ("find, embed and read the expression of one face", "检测、特征提取加表情")),
    ):
        if name not in times:
            continue
        ours = f"{times[name]['p50_ms']:.1f} ms"
        yield {
            "en": (
                f"`analyze`{option}: {done} in 640x480 px, p50",
                ours,
                f"`face_recognition` (dlib HOG): {peer}, **{ratios[name]:.1f}x** as long",
            ),
            "zh": (
                f"`analyze`{option}：640x480 像素、一张人脸，{done_zh}，p50",
                ours,
                f"`face_recognition`（dlib HOG）：{peer}，耗时为 **{ratios[name]:.1f} 倍**",
            ),
        }
    through = result["throughput"]
    ours = f"{through['files_per_s']:.0f} / s"
    alone = f"{through['networks_per_s']:.0f} / s"
    yield {
        "en": ("1,000 picture files with one face each", ours, f"the three networks alone, data ready: {alone}"),
        "zh": ("1,000 个图片文件，每张一张人脸", ours, f"只运行三个网络、数据已就绪：{alone}"),
    }


def lfw(result: dict[str, Any]) -> Iterator[Texts]:
    accuracy = f"{percent(result['accuracy'], 2)} ± {100 * result['accuracy_stderr']:.2f}"
    tar = result["tar_at_fmr"]
    rates = f"TAR {percent(tar['1e-2'])} @ FMR 1e-2, {percent(tar['1e-3'])} @ 1e-3"
    failed, name = len(result["fta"]), embedder_of(result)
    published = PUBLISHED_ON_LFW.get(name)
    yield {
        "en": (
            f"`{name}` on LFW, 6,000 pairs, ten folds, {failed} failures to acquire",
            f"{accuracy}; {rates}",
            f"the network's published figure: {published}" if published else "",
        ),
        "zh": (
            f"`{name}`，LFW，6,000 对，十折，采集失败 {failed} 次",
            f"{accuracy}；{rates}",
            f"该网络公布的数字：{published}" if published else "",
        ),
    }


def operating_points(result: dict[str, Any]) -> Iterator[Texts]:
    points = {point["target_fmr"]: point for point in result["operating_points"]}
    told = "; ".join(
        f"{percent(points[rate]['fnmr'])} {within(points[rate]['fnmr_interval'])} @ {name}"
        for rate, name in ((1e-2, "1e-2"), (1e-3, "1e-3"), (1e-4, "1e-4"))
        if rate in points
    )
    subjects, name = f"{result['metrics']['subjects']:,}", embedder_of(result)
    yield {
        "en": (f"`{name}`: FNMR @ FMR, CelebA subset of 89x109 px, {subjects} subjects never fitted on", told, ""),
        "zh": (f"`{name}`：FNMR @ FMR，CelebA 子集（89x109 像素），{subjects} 个未参与拟合的身份", told, ""),
    }


def fairness(result: dict[str, Any]) -> Iterator[Texts]:
    """Of each embedder, the false match rates of the groups with the highest, at the threshold for a stated rate."""
    for name in sorted(result["embedders"], key=lambda name: (name != DEFAULT_EMBEDDER, name)):
        figures = result["embedders"][name]
        target, groups = f"{figures['target_fmr']:.0e}".replace("e-0", "e-"), figures["utkface"]
        told = "; ".join(_of_group(groups[key]) for key in ("worst_adult", "children") if key in groups)
        before = figures.get("without_cohort", {}).get("utkface", {})
        beside = "; ".join(_of_group(before[key]) for key in ("worst_adult", "children") if key in before)
        yield {
            "en": (
                f"`{name}`, rates by group: highest FMR on UTKFace at the threshold for {target}",
                told,
                f"without its cohort: {beside}" * bool(beside),
            ),
            "zh": (
                f"`{name}`，各人群的错误率：UTKFace，阈值按 FMR {target}，最高的实际 FMR",
                told,
                f"不用参照人群（cohort）：{beside}" * bool(beside),
            ),
        }


def identification(result: dict[str, Any]) -> Iterator[Texts]:
    for name in sorted(result["embedders"], key=lambda name: (name != DEFAULT_EMBEDDER, name)):
        figures = result["embedders"][name]["with_cohort"]
        told = "; ".join(
            f"{percent(figures[f'fnir_at_fpir_{rate}'])} {within(figures[f'fnir_at_fpir_{rate}_interval'])} @ {text}"
            for rate, text in (("0.1", "10 %"), ("0.01", "1 %"))
        )
        subjects = f"{figures['subjects']:,}"
        yield {
            "en": (f"`{name}`: FNIR @ FPIR, {subjects} subjects with one reference each, CelebA subset", told, ""),
            "zh": (f"`{name}`：FNIR @ FPIR，{subjects} 人，每人一张参考图，CelebA 子集", told, ""),
        }


POOR = {
    "face of 20 px": ("faces of 20 px", "20 像素的脸"), "blurred": ("blurred", "模糊"), "dark": ("dark", "昏暗"),
    "masked": ("masked", "口罩"), "JPEG of quality 10": ("JPEG of quality 10", "质量 10 的 JPEG"),
    "noisy": ("very noisy", "噪声很大"),
}  # fmt: skip


def poor_pictures(result: dict[str, Any]) -> Iterator[Texts]:
    figures = result["embedders"][DEFAULT_EMBEDDER]
    rates = {row["kind"]: percent(row["fmr_with_cohort"], 2) for row in figures["rows"]}
    target = f"{figures['target_fmr']:.0e}".replace("e-0", "e-")
    told = {
        i: separator.join(f"{names[i]} {rates[kind]}" for kind, names in POOR.items() if kind in rates)
        for i, separator in ((0, "; "), (1, "；"))
    }
    yield {
        "en": (f"`{DEFAULT_EMBEDDER}`, poor pictures: FMR at the threshold for {target}", told[0], ""),
        "zh": (f"`{DEFAULT_EMBEDDER}`，劣质图片：阈值按 FMR {target}，实际 FMR", told[1], ""),
    }


def degraded(result: dict[str, Any]) -> Iterator[Texts]:
    """How often each embedder misses somebody on a bad picture whose good picture it knows."""
    names = {"recipe": ("spoilt at random", "随机破坏"), "as it is": ("as they are", "原样"), **POOR}

    def told(embedder: str, place: int) -> str:
        figures = (
            f"{name[place]} {percent(row['fnmr'][embedder]['0.01']['value'])} "
            f"{within(row['fnmr'][embedder]['0.01']['interval'])}"
            for kind, name in names.items()
            if (row := result["kinds"].get(kind))
        )
        return ("; ", "；")[place].join(figures)

    for embedder in result["embedders"]:
        ms, subjects = result["one_face_one_thread_ms"][embedder], f"{result['subjects']:,}"
        yield {
            "en": (
                f"`{embedder}`, bad pictures against good ones, {subjects} people: FNMR @ FMR 1e-2",
                told(embedder, 0),
                f"{ms:.1f} ms a face on one thread",
            ),
            "zh": (
                f"`{embedder}`，劣质照片与好照片比较，{subjects} 人：FNMR @ FMR 1e-2",
                told(embedder, 1),
                f"单线程每张脸 {ms:.1f} 毫秒",
            ),
        }


def attributes(result: dict[str, Any]) -> Iterator[Texts]:
    utk, london, pose = result["utkface"], result["london"], result["pose"]
    groups = utk["adults_by_origin_and_sex"]

    def years(facts: dict[str, Any]) -> str:
        low, high = facts["age_mean_absolute_error"]["interval"]
        return f"{facts['age_mean_absolute_error']['mean']:.1f} [{low:.1f}, {high:.1f}]"

    def wrong(facts: dict[str, Any]) -> str:
        return f"{percent(facts['gender_wrong']['mean'])} {within(facts['gender_wrong']['interval'])}"

    best, worst = (
        pick(groups, key=lambda name: groups[name]["age_mean_absolute_error"]["mean"]) for pick in (min, max)
    )
    yield {
        "en": (
            f"Guessed age, UTKFace ({utk['all']['age_mean_absolute_error']['faces']:,}): mean error in years",
            years(utk["all"]),
            f"adults, {best}: {years(groups[best])}; {worst}: {years(groups[worst])}; London's studio: {years(london)}",
        ),
        "zh": (
            f"猜测的年龄，UTKFace（{utk['all']['age_mean_absolute_error']['faces']:,} 张）：平均误差（岁）",
            years(utk["all"]),
            f"成人中 {best}：{years(groups[best])}；{worst}：{years(groups[worst])}；伦敦摄影棚数据：{years(london)}",
        ),
    }
    best, worst = (pick(groups, key=lambda name: groups[name]["gender_wrong"]["mean"]) for pick in (min, max))
    children = utk["by_age"]["0 to 9"]
    yield {
        "en": (
            "Guessed gender, UTKFace's adults: wrong",
            wrong(utk["adults"]),
            f"{best}: {wrong(groups[best])}; {worst}: {wrong(groups[worst])}; children up to 9: {wrong(children)}",
        ),
        "zh": (
            "猜测的外观性别，UTKFace 成人：错误率",
            wrong(utk["adults"]),
            f"{best}：{wrong(groups[best])}；{worst}：{wrong(groups[worst])}；9 岁以下儿童：{wrong(children)}",
        ),
    }
    yaw, roll, mirrored = pose["drawn"]["yaw"], pose["drawn"]["roll"], pose["mirrored"]
    yield {
        "en": (
            f"Head pose of drawn heads turned by up to 40 degrees ({yaw['faces']}): mean error of yaw; of roll",
            f"{yaw['mean_absolute_error']:.1f}; {roll['mean_absolute_error']:.1f} degrees",
            f"photographs against their mirror images: {mirrored['yaw']:.1f}; {mirrored['roll']:.1f}",
        ),
        "zh": (
            f"头部姿态，转动不超过 40 度的绘制头像（{yaw['faces']} 张）：偏航角、滚转角的平均误差",
            f"{yaw['mean_absolute_error']:.1f}；{roll['mean_absolute_error']:.1f} 度",
            f"照片与其镜像相比：{mirrored['yaw']:.1f}；{mirrored['roll']:.1f}",
        ),
    }


def templates(result: dict[str, Any]) -> Iterator[Texts]:
    shipped = result["shipped"]
    for data, (en, zh) in (
        ("half_b", ("half B", "B 半")), ("pins_among_half_b", ("48 people of `pins_dev`", "`pins_dev` 的 48 人")),
    ):  # fmt: skip
        for references, facts in result[data].items():
            if references == "1" or (data == "pins_among_half_b" and references != "5"):
                continue
            ours, single = facts[shipped], facts["best single"]
            told = f"{percent(ours['fnir'])} {within(ours['interval'])}"
            other = f"{percent(single['fnir'])} {within(single['interval'])}"
            who = (
                f"{references} references a subject, pooled",
                f"每人 {references} 张参考，合并模板",
            )
            yield {
                "en": (f"FNIR at FPIR 1 %, {en}, {who[0]}", told, f"best single score: {other}"),
                "zh": (f"FPIR 1 % 时的 FNIR，{zh}，{who[1]}", told, f"取最高单张得分：{other}"),
            }


def _of_group(rates: dict[str, Any]) -> str:
    return f"{rates['group']}: {percent(rates['fmr'], 2)} {within(rates['interval'], 2)}"


def search(result: dict[str, Any]) -> Iterator[Texts]:
    for key, en, zh in (
        ("128-d", "random templates, 128-d", "随机模板，128 维"),
        ("512-d", "random templates, 512-d", "随机模板，512 维"),
        (
            "real 129-d",
            "templates, {half:,} real and the rest made up like them, {dimension}-d",
            "{half:,} 个真实模板，其余按其分布生成，{dimension} 维",
        ),
    ):
        if "mien" not in result.get(key, {}):
            continue
        ours = result[key]["mien"]
        if key.startswith("real"):
            facts = {"half": result[key]["embeddings"] // 2, "dimension": result[key]["dimension"]}
            en, zh = en.format(**facts), zh.format(**facts)
        told = f"p50 {ours['p50_ms']:.1f} ms, p99 {ours['p99_ms']:.1f} ms, recall@1 {ours['recall_at_1']:.4f}"
        told += f", {ours['search_peak_mb']:,} MB"
        flat, graph = result[key].get("faiss flat"), result[key].get("faiss hnsw32 ef64")
        beside, plain = [], result.get("real 128-d")
        if flat:
            beside.append(f"FAISS flat: {flat['p50_ms']:.0f} ms, {flat['search_peak_mb']:,} MB")
        if graph:
            beside.append(f"HNSW ({graph['templates']:,}): {graph['p50_ms']:.1f} ms, recall {graph['recall_at_1']:.2f}")
        size = f"{ours['templates']:,}"
        than = {"en": "; ".join(beside), "zh": "；".join(beside)}
        if plain and key.startswith("real"):
            p50 = f"{plain['mien']['p50_ms']:.1f} ms"
            than = {
                "en": f"128-d without cohort, same machine: {p50}",
                "zh": f"不用参照人群（cohort）的 128 维，同一台机器：{p50}",
            }
        yield {
            "en": (f"Search among {size} {en}, one a subject, one thread", told, than["en"]),
            "zh": (f"在 {size} 个模板中检索（{zh}），每人一个，单线程", told, than["zh"]),
        }


def grouping(result: dict[str, Any]) -> Iterator[Texts]:
    methods = result["methods"]
    ours = next(values for name, values in methods.items() if "(mien)" in name)
    others = {name: values for name, values in methods.items() if "(mien)" not in name}
    name, other = max(others.items(), key=lambda item: item[1]["half B"]["bcubed_f"])
    seconds = max(row["seconds"] for row in result["time"] if row["faces"] <= 10_000)
    told = f"B³ F {ours['half B']['bcubed_f']:.2f} / {ours['ORL']['bcubed_f']:.2f}; {seconds:.1f} s"
    beside = f"{name}: {other['half B']['bcubed_f']:.2f} / {other['ORL']['bcubed_f']:.2f}"
    yield {
        "en": ("Group by person, CelebA half B / ORL; at most, for 10,000 faces", told, beside),
        "zh": ("按人分组，CelebA B 半 / ORL；10,000 张人脸最多用时", told, beside),
    }


def quality(result: dict[str, Any]) -> Iterator[Texts]:
    ours = result["half_b_degraded"]["quality"]
    side = result["half_b_degraded"]["side alone"]
    rates, other = ours["fnmr_at_discard"], side["fnmr_at_discard"]
    told = f"{percent(rates['0%'])} → {percent(rates['20%'])}"
    yield {
        "en": (
            "FNMR of degraded faces when the worst 20 % by quality are left out",
            told,
            f"by size: {percent(other['20%'])}",
        ),
        "zh": ("按质量舍去最差的 20 % 后，退化人脸的 FNMR", told, f"只按大小：{percent(other['20%'])}"),
    }


def memory(result: dict[str, Any]) -> Iterator[Texts]:
    plain = max(result["analyze"], key=lambda row: row["pictures"])
    full = max(result["analyze --embeddings"], key=lambda row: row["pictures"])
    told = f"{plain['peak_mb']:.0f} MB; {full['peak_mb']:.0f} MB"
    few = min(result["analyze"], key=lambda row: row["pictures"])
    beside = f"{few['peak_mb']:.0f} MB"
    cold = result["cold_start"]
    times = f"{cold['mien --help']['p50_s']:.2f} s; {cold['mien analyze, one picture']['p50_s']:.2f} s"
    yield {
        "en": (
            f"Peak memory of `analyze` on {plain['pictures']:,} pictures; with embeddings",
            told,
            f"{few['pictures']} pictures: {beside}",
        ),
        "zh": (
            f"`analyze` 处理 {plain['pictures']:,} 张图片的内存峰值；含特征",
            told,
            f"{few['pictures']} 张图片：{beside}",
        ),
    }
    yield {
        "en": ("Cold start: `mien --help`; `mien analyze` of one picture", times, ""),
        "zh": ("冷启动：`mien --help`；`mien analyze` 一张图片", times, ""),
    }


def crash(result: dict[str, Any]) -> Iterator[Texts]:
    told = f"{result['checks_passed']} / {result['rounds']}; {result['missing']}"
    enrolled = f"{result['acknowledged']:,}"
    yield {
        "en": (f"`kill -9` while enrolling: galleries sound; lost of {enrolled} acknowledged enrolments", told, ""),
        "zh": (f"登记时 `kill -9`：完好的库；{enrolled} 次已确认登记中丢失的", told, ""),
    }


def crash_postgres(result: dict[str, Any]) -> Iterator[Texts]:
    told = f"{result['checks_passed']} / {result['rounds']}; {result['missing']}"
    enrolled = f"{result['acknowledged']:,}"
    yield {
        "en": (f"The same in PostgreSQL, every second time the server is killed; of {enrolled}", told, ""),
        "zh": (f"PostgreSQL 中同样的测试，每两次有一次杀死的是服务器；共 {enrolled} 次", told, ""),
    }


def postgres_search(result: dict[str, Any]) -> Iterator[Texts]:
    size, found, plain = f"{result['templates']:,}", result["scored_by_the_server"], result["scored_by_the_replica"]
    told = f"p50 {found['p50_ms']:.1f} ms, p95 {found['p95_ms']:.1f} ms, recall@1 {found['recall_at_1']:.4f}"
    without = f"p50 {plain['p50_ms']:.1f} ms, p95 {plain['p95_ms']:.1f} ms"
    load = f"{result['load_average']:.0f}"
    yield {
        "en": (
            f"Search among {size} templates in PostgreSQL, one a subject, {found['probes']:,} real probes, load {load}",
            told,
            f"without pgvector: {without}",
        ),
        "zh": (
            f"在 PostgreSQL 的 {size} 个模板中检索，每人一个，{found['probes']:,} 个真实探针，系统负载 {load}",
            told,
            f"无 pgvector：{without}",
        ),
    }
    fresh = result["freshness"]
    told = f"{fresh['seen_by_the_next_search']} / {fresh['writes']}; p95 {fresh['search']['p95_ms']:.1f} ms"
    yield {
        "en": ("A write on one replica is seen by the next search of another", told, ""),
        "zh": ("一个副本写入后，另一个副本的下一次检索即可看到", told, ""),
    }


def service(result: dict[str, Any]) -> Iterator[Texts]:
    many, even, over, crashed, tried = (
        result[part] for part in ("throughput", "at_70_percent", "overload", "crashes", "mutations")
    )
    told = f"{many['ratio_by_cpu']:.2f}; {many['ratio_by_clock']:.2f}"
    subjects, clients = f"{result['subjects']:,}", result["clients"]
    yield {
        "en": (
            f"`/v1/identify` among {subjects} subjects, {clients} clients on the same cores: throughput over the bare "
            "pipeline's, by CPU; by the clock",
            told,
            "",
        ),
        "zh": (
            f"`/v1/identify`，{subjects} 人，{clients} 个客户端在相同的核上：吞吐量与直接调用之比，按 CPU；按时钟",
            told,
            "",
        ),
    }
    told = f"{even['p99_over_p50']:.1f}; {percent(over['within_1_s'])}"
    requests = sum(even["statuses"].values()) + even["lost"]
    yield {
        "en": (
            f"At 70 % load ({requests} requests, {even['lost']} without an answer): p99 over p50; "
            "at five times the load: answered or refused within 1 s",
            told,
            "",
        ),
        "zh": (
            f"负载 70 % 时（{requests} 个请求，{even['lost']} 个没有回答）p99 与 p50 之比；"
            "五倍负载时 1 秒内得到回答或拒绝的",
            told,
            "",
        ),
    }
    acknowledged, rounds = f"{crashed['acknowledged']:,}", crashed["rounds"]
    yield {
        "en": (
            f"`kill -9` while enrolling over HTTP, {rounds} times: lost of {acknowledged}",
            str(crashed["lost"]),
            "",
        ),
        "zh": (f"通过 HTTP 登记时 `kill -9` {rounds} 次：{acknowledged} 次中丢失的", str(crashed["lost"]), ""),
    }
    pictures, requests = tried["pictures"], tried["requests"]
    told = f"{pictures['server_errors'] + requests['server_errors']}"
    yield {
        "en": (
            f"{pictures['sent']:,} damaged pictures and {requests['sent']:,} made-up requests: server errors",
            told,
            "",
        ),
        "zh": (f"{pictures['sent']:,} 张损坏的图片和 {requests['sent']:,} 个随机请求：服务器错误", told, ""),
    }


def ingest(result: dict[str, Any]) -> Iterator[Texts]:
    killed, load = result["killed"], f"{result['load_average']:.0f}"
    told = f"{killed['lost']} lost, {killed['double']} double"
    gain, working = f"{result['speed_up']:.2f}x", killed["killed_at_work"]
    yield {
        "en": (
            f"Two workers of `mien ingest`, {killed['kills']} times killed, {working} of them at work, "
            f"{killed['enrolled']} pictures",
            told,
            "",
        ),
        "zh": (
            f"两个 `mien ingest` 进程，{killed['kills']} 次被杀死，其中 {working} 次正在工作，"
            f"{killed['enrolled']} 张图片",
            f"丢失 {killed['lost']}，重复 {killed['double']}",
            "",
        ),
    }
    yield {
        "en": (f"Two workers over one, {result['pictures']} pictures, load {load}", gain, ""),
        "zh": (f"两个进程比一个快多少，{result['pictures']} 张图片，系统负载 {load}", gain, ""),
    }


def bad_input(result: dict[str, Any]) -> Iterator[Texts]:
    cases = [*result["pictures"], *result["other"]]
    told = f"{sum(case['ok'] for case in cases)} / {len(cases)}"
    yield {
        "en": ("Bad inputs handled right or refused in one line", told, ""),
        "zh": ("坏输入被正确处理，或用一行话拒绝", told, ""),
    }


def expression(result: dict[str, Any]) -> Iterator[Texts]:
    """The shipped model's own figures with their intervals, and mean and spread over the seeds of its recipe."""
    first = next(iter(result["models"]))
    headline, n, name = result["headline"], len(result["models"]), first.removeprefix("0-")

    def told(target: str, subset: str, figure: str) -> str:
        row = result[target][first][subset]
        over = headline[f"{target}.{subset}.{figure}"]
        seeds = f"; {n} seeds {100 * over['mean']:.1f} ± {100 * over['sd']:.1f}" if over["sd"] is not None else ""
        return f"{percent(row[figure])} {within(row[f'{figure}_interval'])}{seeds}"

    peer = result["fer2013"]["mini_xception"]
    ahead = result["against_mini_xception"][first]
    beside = (
        f"`fer`'s mini-XCEPTION: {percent(peer['all']['accuracy'])}, "
        f"**{100 * ahead['ahead']:+.1f} points** {within(ahead['interval'])}"
    )
    beside_zh = (
        f"`fer` 的 mini-XCEPTION：{percent(peer['all']['accuracy'])}，"
        f"**{100 * ahead['ahead']:+.1f} 个百分点** {within(ahead['interval'])}"
    )
    yield {
        "en": (
            f"`{name}`, FER2013 labels, 7 classes, test split of our copy ({peer['all']['n']:,})",
            told("fer2013", "all", "accuracy"),
            beside,
        ),
        "zh": (
            f"`{name}`，FER2013 标签，7 类，我们副本的测试集（{peer['all']['n']:,} 张）",
            told("fer2013", "all", "accuracy"),
            beside_zh,
        ),
    }
    clean = result["fer2013"][first]["no_leaks"]["n"]
    theirs = percent(peer["no_leaks"]["accuracy"])
    yield {
        "en": (
            f"`{name}`, the same without test pictures that stand in train or valid, copies of them included "
            f"({clean:,})",
            told("fer2013", "no_leaks", "accuracy"),
            f"mini-XCEPTION: {theirs}",
        ),
        "zh": (
            f"`{name}`，同上，去掉也出现在训练集或验证集中的图片及其副本（{clean:,} 张）",
            told("fer2013", "no_leaks", "accuracy"),
            f"mini-XCEPTION：{theirs}",
        ),
    }
    agreed = result["ferplus"][first]["agreed"]
    every = (
        f"{percent(result['ferplus'][first]['all']['accuracy'])} / {result['ferplus'][first]['all']['macro_f1']:.2f}"
    )
    yield {
        "en": (
            f"`{name}`, FER+, 8 classes, test split, where raters agree ({agreed['n']:,}): accuracy; macro-F1",
            f"{told('ferplus', 'agreed', 'accuracy')}; {agreed['macro_f1']:.2f}",
            f"on all pictures {every}; calibration error {agreed['ece']:.3f}",
        ),
        "zh": (
            f"`{name}`，FER+ 多数标签，8 类，测试集中标注者意见一致的图片（{agreed['n']:,} 张）：准确率；宏平均 F1",
            f"{told('ferplus', 'agreed', 'accuracy')}；{agreed['macro_f1']:.2f}",
            f"全部图片 {every}；校准误差 {agreed['ece']:.3f}",
        ),
    }
    ck = result["ckplus"]
    theirs = percent(ck["without_contempt"]["mini_xception"]["accuracy"])
    ours = percent(ck["without_contempt"][first]["accuracy"])
    figures = f"{percent(ck['models'][first]['accuracy'])} {within(ck['models'][first]['accuracy_interval'])}"
    yield {
        "en": (
            f"`{name}`, CK+ frames, 7 classes, never trained on ({ck['pictures']:,})",
            figures,
            f"without contempt: {ours}, mini-XCEPTION {theirs}",
        ),
        "zh": (
            f"`{name}`，CK+ 帧，7 类，从未用于训练（{ck['pictures']:,} 张）",
            figures,
            f"不含轻蔑：{ours}，mini-XCEPTION {theirs}",
        ),
    }
    areas, count = result["smiles"]["models"], f"{result['smiles']['pictures']:,}"
    option = f"--expression {name}"
    ours = f"{areas[first]['auc']:.3f} [{areas[first]['auc_interval'][0]:.3f}, {areas[first]['auc_interval'][1]:.3f}]"
    yield {
        "en": (
            f"Happiness, through `analyze {option}`, against CelebA's `Smiling` ({count}): ROC area",
            ours,
            f"mini-XCEPTION on the same boxes: {areas['mini_xception']['auc']:.3f}",
        ),
        "zh": (
            f"经 `analyze {option}` 得到的快乐概率对 CelebA 的 `Smiling`（{count} 张），ROC 曲线下面积",
            ours,
            f"mini-XCEPTION，同样的框：{areas['mini_xception']['auc']:.3f}",
        ),
    }
    times, small = result["speed"], result["int8"]
    if small is not None:
        ours = f"{times['network_ms']:.1f} ms; {times['int8_network_ms']:.1f} ms"
        gained = -100 * small["lost"]
        yield {
            "en": (
                "Expression network, one face, one thread; in 8 bits",
                ours,
                f"accuracy in 8 bits: {gained:+.2f} points on {small['n']:,} validation pictures",
            ),
            "zh": (
                "表情网络，一张人脸，单线程；8 位",
                ours,
                f"8 位的准确率：在 {small['n']:,} 张验证图片上 {gained:+.2f} 个百分点",
            ),
        }


def expression_carry_over(result: dict[str, Any]) -> Iterator[Texts]:
    """What `analyze` tells, of pictures from elsewhere and from home, beside the network that knows one data set."""
    ours, before = "expression-resnet27-union", "expression-resnet27-equal"
    names = {
        "ckplus": ("CK+, all 8 classes allowed, never trained on", "CK+，可答全部 8 类，从未用于训练"),
        "rafdb valid": ("RAF-DB, validation part", "RAF-DB 验证部分"),
        "fer2013plus valid": ("FER+, validation split", "FER+ 验证集"),
    }
    for place, (name, name_zh) in names.items():
        new, old = (result["measure"][place][model]["told"] for model in (ours, before))
        figures = [
            f"{percent(row['accuracy'])} {within(row['accuracy_interval'])}; {row['macro_f1']:.2f}; {row['ece']:.3f}; "
            f"{percent(row['error_at_80'])}"
            for row in (new, old)
        ]
        yield {
            "en": (
                f"What `analyze` tells, {name} ({new['n']:,}): accuracy; macro-F1; calibration error; "
                "error left at 80 % coverage",
                figures[0],
                f"`{before}`, which never saw RAF-DB: {figures[1]}",
            ),
            "zh": (
                f"`analyze` 的回答，{name_zh}（{new['n']:,} 张）：准确率；宏平均 F1；校准误差；覆盖 80 % 时的错误率",
                figures[0],
                f"从未见过 RAF-DB 的 `{before}`：{figures[1]}",
            ),
        }


def generation(result: dict[str, Any]) -> Iterator[Texts]:
    """Of a shipped generator: that it draws faces, of all kinds, and what was asked for."""
    name, n = result["model"].rsplit("-", 2)[0], result["n"]
    found, real = result["face_found"], result["real_face_found"]
    identity = result["spaces"][IDENTITY_SPACE]
    distance = f"{identity['generated']['frechet']['mean']:.3f}"
    beside = f"{identity['real']['frechet']['mean']:.3f}"
    asked, seen = result["asked_is_seen"], result["real_is_seen"]
    sharp = f"{result['sharpness']['mean']:.2f}"
    yield {
        "en": (
            f"`{name}`: a face is found in what it draws; Frechet distance to {n:,} held-out faces, identity features; "
            "sharpness",
            f"{percent(found['share'])} {within(found['interval'])}; {distance}; {sharp}",
            f"real faces: {percent(real['share'])}; {beside}; 1",
        ),
        "zh": (
            f"`{name}`：在所画图片中检测到人脸；与 {n:,} 张留出人脸的 Fréchet 距离（身份特征）；清晰度",
            f"{percent(found['share'])} {within(found['interval'])}；{distance}；{sharp}",
            f"真实人脸：{percent(real['share'])}；{beside}；1",
        ),
    }
    if asked is not None:
        judge = result["classifier"].rsplit("-", 2)[0]
        yield {
            "en": (
                f"`{name}`: `{judge}`, which learned from the same pictures, sees the expression asked for",
                f"{percent(asked['share'])} {within(asked['interval'])}",
                f"on real faces: {percent(seen['share'])}",
            ),
            "zh": (
                f"`{name}`：`{judge}`（学自同一批图片）看到的正是所要求的表情",
                f"{percent(asked['share'])} {within(asked['interval'])}",
                f"真实人脸：{percent(seen['share'])}",
            ),
        }


def malformed(result: dict[str, Any]) -> Iterator[Texts]:
    """Of faces drawn from the flow and from the mixture: how many are plainly wrong, by eye."""
    for model, kinds in result["models"].items():
        name, looks = model.rsplit("-", 2)[0], kinds["looks"]
        wrong, before, real = (
            f"{percent(kinds[kind]['share'])} {within(kinds[kind]['interval'])}"
            for kind in ("flow", "mixture", "photographs")
        )
        yield {
            "en": (
                f"`{name}`: drawn faces that are plainly wrong, by eye, {looks} blind looks of one rater",
                wrong,
                f"from the fitted mixture: {before}; photographs: {real}",
            ),
            "zh": (
                f"`{name}`：明显画坏的脸，由一人盲评 {looks} 遍",
                wrong,
                f"从拟合的混合分布抽取：{before}；照片：{real}",
            ),
        }


def edits(result: dict[str, Any]) -> Iterator[Texts]:
    """Of all ways to edit that a model has: whether edits are read as asked, and whether the person is kept."""
    name, n, ways = result["model"].rsplit("-", 2)[0], result["faces"], dict(result["ways"])
    first = ways.pop(next(iter(ways)))
    judges = [key for key in EDIT_JUDGES if key not in result["in_the_loss"]]

    def read(way: dict[str, Any]) -> str:
        return f"{percent(way['read_as_asked']['share'])} {within(way['read_as_asked']['interval'])}"

    def kept(way: dict[str, Any]) -> str:
        told = [way["identity_kept"][key]["at_shipped_threshold"] for key in judges]
        return "; ".join(f"{percent(one['share'])} {within(one['interval'])}" for one in told)

    def others(said: Callable[[dict[str, Any]], str], lang: str) -> str:
        mark = {"en": ("by {}: {}", "; "), "zh": ("{}：{}", "；")}[lang]
        return mark[1].join(mark[0].format(OTHER_EDITS[way][lang], said(told)) for way, told in ways.items())

    yield {
        "en": (
            f"`{name}`, `edit`: mini-XCEPTION reads the expression asked for, {n} faces", read(first),
            others(read, "en"),
        ),
        "zh": (f"`{name}`，`edit`：mini-XCEPTION 读出所要求的表情，{n} 张脸", read(first), others(read, "zh")),
    }  # fmt: skip
    yield {
        "en": (
            f"`{name}`, `edit`: the face still matches, FMR 1e-2; by {' and '.join(judges)}", kept(first),
            others(kept, "en"),
        ),
        "zh": (
            f"`{name}`，`edit`：编辑后仍与原脸匹配，FMR 1e-2；{'、'.join(judges)}", kept(first), others(kept, "zh")
        ),
    }  # fmt: skip


def generative_peers(result: dict[str, Any]) -> Iterator[Texts]:
    """After equal time: Frechet distances in two spaces, and faces found, means over seeds."""
    for number, measured in enumerate((result, *result["earlier"])):
        where = ("", "") if number == 0 else (f" of earlier machine {number}", f"（早先的机器 {number}）")
        other = {}
        if (real := measured.get("photographs")) is not None:
            identity, expression = (real["frechet"][space] for space in (IDENTITY_SPACE, "expression-resnet27"))
            found = percent(real["face_found"], 0)
            other = {"photographs learned from": f"{identity:.3f}, {expression:.1f}, {found}"}
        yield from _after_equal_time(measured["summary"], *where, other)


def _after_equal_time(
    summary: list[dict[str, Any]], where: str, where_zh: str, other: Mapping[str, str]
) -> Iterator[Texts]:
    pairs = (
        ("mien VAE", ("pythae",)),
        ("mien GAN", ("DCGAN", "mien VAE", "pythae")),
        ("mien GAN from a VAE", ("DCGAN", "mien GAN", "lightweight")),
    )
    for seconds in sorted({row["seconds"] for row in summary}):
        by_name = {row["name"]: row for row in summary if row["seconds"] == seconds}
        minutes = f"{seconds / 60:.0f}"
        for ours, peers in pairs:
            others = {name: _at_peers(row) for name, row in by_name.items() if name.startswith(peers) and name != ours}
            others |= other
            if ours not in by_name or not others:
                continue
            n, beside = by_name[ours]["seeds"], "; ".join(f"{name}: {told}" for name, told in others.items())
            yield {
                "en": (
                    f"{ours} after {minutes} minutes of one thread{where}, 64 px, {n} seed{'' if n == 1 else 's'}: "
                    "Frechet distance, identity and expression features; faces found",
                    _at_peers(by_name[ours]),
                    beside,
                ),
                "zh": (
                    f"{ours}，单线程{where_zh} {minutes} 分钟，64 像素，{n} 个种子：Fréchet 距离（身份、表情特征）；"
                    "检测到人脸",
                    _at_peers(by_name[ours]),
                    beside.replace("photographs learned from", "所学的照片"),
                ),
            }


def _at_peers(row: dict[str, Any]) -> str:
    identity, expression = row[IDENTITY_SPACE], row["expression-resnet27"]["mean"]
    limits = "" if identity["interval"] is None else " [{:.3f}, {:.3f}]".format(*identity["interval"])
    return f"{identity['mean']:.3f}{limits}, {expression:.1f}, {percent(row['face_found']['mean'], 0)}"


def generative_training(result: dict[str, Any]) -> Iterator[Texts]:
    def told(name: str) -> str:
        return f"{result['rows'][name]['peak_gb']:.2f} GB, {result['rows'][name]['images_per_second']:.0f}"

    names = {
        "VAE": "VAE",
        "VAE, perceptual and adversarial terms": "VAE, perceptual + adversarial",
        "GAN from a VAE": "GAN",
    }
    ours = "; ".join(f"{short}: {told(name)}" for name, short in names.items() if name in result["rows"])
    side, batch = result["side"], result["batch_size"]
    yield {
        "en": (f"Training at {side} px, batches of {batch}, two cores: peak memory, images a second", ours, ""),
        "zh": (f"{side} 像素训练，每批 {batch} 张，两个核：内存峰值，每秒图片数", ours, ""),
    }


def likeness(result: dict[str, Any]) -> Iterator[Texts]:
    for name, figures in result["models"].items():
        like, limit = figures["like"], f"{percent(figures['like']['above_threshold_of_card'], 0)}"
        yield {
            "en": (
                f"`{name}`, `--like`: above the threshold that one pair of strangers in a hundred reaches",
                f"{percent(like['above'], 0)} {within(like['interval'], 0)}",
                f"by the threshold of the embedder's card: {limit}",
            ),
            "zh": (
                f"`{name}`，`--like`：超过每百对陌生人中有一对达到的阈值",
                f"{percent(like['above'], 0)} {within(like['interval'], 0)}",
                f"按特征网络卡片上的阈值：{limit}",
            ),
        }


def synthetic_training(result: dict[str, Any]) -> Iterator[Texts]:
    for name, figures in result["models"].items():
        if not figures["ratio_interval"]:  # a trial of one training
            continue
        version = figures["model"].rsplit("-", 2)[1]
        accuracy, real = (sum(figures[key]) / len(figures[key]) for key in ("accuracy", "real_accuracy"))
        ratio = f"{figures['ratio']:.2f} [{figures['ratio_interval'][0]:.2f}, {figures['ratio_interval'][1]:.2f}]"
        yield {
            "en": (
                f"A small network taught by `{name}`, version {version}: accuracy over that with real faces",
                f"{ratio}; {percent(accuracy)}",
                f"taught by real faces: {percent(real)}",
            ),
            "zh": (
                f"只用 `{name}`（第 {version} 版）的人脸训练的小网络：在真实人脸上的准确率与用真实人脸训练的之比",
                f"{ratio}；{percent(accuracy)}",
                f"用真实人脸训练：{percent(real)}",
            ),
        }


def video(result: dict[str, Any]) -> Iterator[Texts]:
    if "speed" in result:
        yield from _video_speed(result["speed"])
    for name, faces, faces_zh in (("one_face", "one face", "一张脸"), ("four_faces", "four faces", "四张脸")):
        if "latency" not in result:
            break
        late = result["latency"][name]
        dropped = late["dropped"] / max(late["dropped"] + late["looked_at"], 1)
        yield {
            "en": (
                f"`watch`, MJPEG stream of 640x480, {faces}: from the making of a picture to its events, p95",
                f"{late['p95_ms']:.0f} ms (p50 {late['p50_ms']:.0f} ms)",
                f"{percent(dropped, 0)} of 30 pictures a second dropped",
            ),
            "zh": (
                f"`watch`，640x480 的 MJPEG 流，{faces_zh}：从画面产生到事件写出，p95",
                f"{late['p95_ms']:.0f} ms（p50 {late['p50_ms']:.0f} ms）",
                f"每秒 30 帧中丢弃 {percent(dropped, 0)}",
            ),
        }
    if "tracks" in result:
        yield _video_tracks(result["tracks"])
    if "names" in result:
        yield _video_names(result["names"])
    if "expressions" in result:
        yield _video_expressions(result["expressions"])
    if "memory" in result:
        sizes, minutes = result["memory"]["resident_mib"], result["memory"]["video_minutes"]
        grown = sizes[-1] - sizes[2]
        yield {
            "en": (
                f"`watch`, memory over {minutes:g} minutes of video",
                f"{sizes[-1]:.0f} MiB",
                f"since 30 %: {grown:+.1f} MiB",
            ),
            "zh": (f"`watch` 看 {minutes:g} 分钟视频的内存", f"{sizes[-1]:.0f} MiB", f"自 30 % 起 {grown:+.1f} MiB"),
        }


def _video_speed(result: dict[str, Any]) -> Iterator[Texts]:
    for name, faces, faces_zh in (("one_face", "one face", "一张脸"), ("four_faces", "four faces", "四张脸")):
        clock, cpu, found = (result[name][key] for key in ("frames_per_s", "frames_per_cpu_s", "faces_a_picture"))
        slower = result[name]["watch_times_as_fast_as"]
        share = percent(found["peer_quarter"] / found["every_picture"], 0)
        ours, saved = f"{clock['watch']:.0f}", f"{clock['watch_and_film']:.0f}"
        of_cpu = f"{cpu['watch']:.0f}"
        same, full = f"**{slower['every_picture']:.1f}x**", f"**{slower['peer_full']:.0f}x**"
        yield {
            "en": (
                f"`watch`, 640x480, {faces}: pictures a second",
                f"{ours}; with `--save` {saved}; a second of CPU time {of_cpu}",
                f"the same networks picture by picture take {same} as long, `face_recognition`'s webcam recipe {full}, "
                f"its faster one at a quarter of the size {slower['peer_quarter']:.1f}x, finding {share} of the faces",
            ),
            "zh": (
                f"`watch`，640x480，{faces_zh}：每秒帧数",
                f"{ours}；加 `--save` {saved}；每秒 CPU 时间 {of_cpu}",
                f"同样的网络逐帧分析耗时为 {same}，`face_recognition` 的摄像头做法为 {full}；其缩小到四分之一的"
                f"快速做法为 {slower['peer_quarter']:.1f}x，只找到 {share} 的脸",
            ),
        }


def _video_tracks(result: dict[str, Any]) -> Texts:
    ours, other = result["by_looks"], result["by_overlap"]
    idf1 = ["{:.2f} [{:.2f}, {:.2f}]".format(*arm["idf1"]) for arm in (ours, other)]
    both = list(zip(idf1, (ours["switches_in_all"], other["switches_in_all"]), strict=True))
    mean, low, high = result["fewer_switches_a_film"]
    fewer = f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    films, seconds = result["films"], result["seconds"]
    return {
        "en": (
            f"tracks in {films} composed films of {seconds:.0f} s: four people cross, hide, leave and come back",
            f"IDF1 {both[0][0]}, {both[0][1]} identity switches",
            f"overlap alone: IDF1 {both[1][0]}, {both[1][1]} switches; fewer a film: {fewer}",
        ),
        "zh": (
            f"{films} 段各 {seconds:.0f} 秒的合成影片，四人交错、被遮挡、离开又回来",
            f"IDF1 {both[0][0]}，身份切换 {both[0][1]} 次",
            f"只看重叠：IDF1 {both[1][0]}，切换 {both[1][1]} 次；每段少 {fewer} 次",
        ),
    }


def _video_names(result: dict[str, Any]) -> Texts:
    def missed(arm: str) -> str:
        mean, *spread = result[arm]["fnir"]
        return f"{percent(mean)} {within(spread)}"

    mean, *spread = result["best_face_minus_pooled"]
    better = f"{100 * mean:.1f} {within(spread)}"
    return {
        "en": (
            f"tracks of {result['mated_tracks']} subjects not named, at most 1 % of strangers named, degraded faces",
            missed("pooled"),
            f"by the best face alone: {missed('best_face')}, difference {better}; by the first: {missed('first_face')}",
        ),
        "zh": (
            f"{result['mated_tracks']} 个身份的轨迹未被认出的比例，最多 1 % 的陌生人被误认，画质很差",
            missed("pooled"),
            f"只用最好的一张脸：{missed('best_face')}，相差 {better}；只用第一张：{missed('first_face')}",
        ),
    }


def _video_expressions(result: dict[str, Any]) -> Texts:
    raw, smooth = result["raw"], result["smoothed"]
    flips = [f"{arm['extra_flips_a_minute'][0]:.1f}" for arm in (smooth, raw)]
    f1 = [f"{arm['macro_f1'][0]:.3f} [{arm['macro_f1'][1]:.3f}, {arm['macro_f1'][2]:.3f}]" for arm in (smooth, raw)]
    return {
        "en": (
            f"expressions of {result['subjects']} people of CK+, degraded, averaged: false changes a minute; macro-F1",
            f"{flips[0]}; {f1[0]}",
            f"each reading alone: {flips[1]}; {f1[1]}",
        ),
        "zh": (
            f"CK+ 的 {result['subjects']} 人的表情，画质很差，随时间平均：每分钟误变次数；宏平均 F1",
            f"{flips[0]}；{f1[0]}",
            f"逐次读数：{flips[1]}；{f1[1]}",
        ),
    }


def restoration(result: dict[str, Any]) -> Iterator[Texts]:
    """By condition: the arm that won back most, beside the picture as it is; by the recogniser named first."""
    for condition, setting in verdicts.settings_by_condition(result).items():
        rows = {row["arm"]: row for row in result["rows"] if row["setting"] == setting}
        as_is = rows.pop("as-is")
        best = max(rows.values(), key=lambda row: float(row["value"]))
        told = f"{best['arm']}: {percent(best['value'])}; {_points(best)}"
        beside = percent(as_is["value"])
        sharp = f"; unsharp: {_points(rows['unsharp'])}" if "unsharp" in rows else ""
        n, fmr = result["test_items"], result["settings"]["fmr"]
        yield {
            "en": (
                f"LFW probes, {condition} (n = {n}): mates found at FMR {fmr:g} by the best arm; points gained",
                told,
                f"as it is: {beside}{sharp}",
            ),
            "zh": (
                f"LFW 探测图片，{verdicts.SPOILT_ZH[condition]}（n = {n}）：FMR {fmr:g} 时"
                f"最好的方法认出的比例；增加的百分点",
                told,
                f"原样：{beside}{sharp}",
            ),
        }


def _points(row: dict[str, Any]) -> str:
    low, high = row["gain_interval"]
    return f"{100 * row['gain']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def anonymize(result: dict[str, Any]) -> Iterator[Texts]:
    """What is left of who it was, and of what the face showed: generated faces, beside blur and mosaic."""
    rows = {row["mode"]: row for row in result["rows"]}
    ours, others = rows["generate"], [rows[mode] for mode in ("blur", "mosaic")]

    def told(row: dict[str, Any], what: str, judge: str) -> str:
        return f"{percent(row[what][judge]['share'])} {within(row[what][judge]['interval'])}"

    def beside(what: str, judge: str) -> str:
        return "; ".join(f"{row['mode']}: {told(row, what, judge)}" for row in others)

    n = ours["still_matching"]["sface"]["n"]
    for judge, english, chinese in (
        ("sface", "by the embedder that proved it", "由把关的嵌入网络判断"),
        ("dlib-resnet29", "by one that had no say", "由没有参与的嵌入网络判断"),
    ):
        yield {
            "en": (
                f"`anonymize` (n = {n}): still matching at FMR {result['fmr']:g}, {english}",
                told(ours, "still_matching", judge),
                beside("still_matching", judge),
            ),
            "zh": (
                f"`anonymize`（n = {n}）：FMR {result['fmr']:g} 时仍然匹配，{chinese}",
                told(ours, "still_matching", judge),
                beside("still_matching", judge),
            ),
        }
    for judge, english, chinese in (
        ("reader that chose", "by the reader that chose", "由挑选的读取网络判断"),
        ("mini-xception", "by one that had no say", "由没有参与的读取网络判断"),
    ):
        yield {
            "en": (
                f"`anonymize`: expression kept, {english}",
                told(ours, "expression_kept", judge),
                beside("expression_kept", judge),
            ),
            "zh": (
                f"`anonymize`：表情保持不变，{chinese}",
                told(ours, "expression_kept", judge),
                beside("expression_kept", judge),
            ),
        }


def speed_in_short(result: dict[str, Any]) -> Texts:
    ours, theirs = (f"{result['times'][name]['p50_ms']:.0f} ms" for name in ("auto", "face_recognition"))
    ratio = f"{result['ratio_p50']['auto']:.1f}"
    return {
        "en": (
            "find and embed a face, 640x480 px",
            ours,
            f"`face_recognition`: {theirs}, {ratio} times as long",
        ),
        "zh": ("检测一张人脸并提取特征，640x480 像素", ours, f"`face_recognition`：{theirs}，{ratio} 倍"),
    }


def lfw_in_short(result: dict[str, Any]) -> Texts:
    told = f"{percent(result['accuracy'], 2)} ± {100 * result['accuracy_stderr']:.2f}"
    published = PUBLISHED_ON_LFW.get(embedder_of(result))
    return {
        "en": ("LFW, pairs decided correctly", told, f"the same network, as published: {published}" * bool(published)),
        "zh": ("LFW，判断正确的图片对", told, f"同一网络公布的数字：{published}" * bool(published)),
    }


def operating_points_in_short(result: dict[str, Any]) -> Texts:
    points = {point["target_fmr"]: point for point in result["operating_points"]}
    told = "; ".join(f"{percent(points[rate]['fnmr'])} @ FMR {name}" for rate, name in ((1e-2, "1e-2"), (1e-3, "1e-3")))
    return {
        "en": ("matches missed, celebrities, pictures of 89x109 px", told, ""),
        "zh": ("漏认，名人图片，89x109 像素", told, ""),
    }


def fairness_in_short(result: dict[str, Any]) -> Texts:
    figures = result["embedders"][DEFAULT_EMBEDDER]
    told = "; ".join(
        f"{rates['group']}: {percent(rates['fmr'], 2)}"
        for rates in (figures["utkface"].get(key) for key in ("worst_adult", "children"))
        if rates
    )
    target = percent(figures["target_fmr"])
    return {
        "en": (f"rates by group: false matches where {target} were asked for", told, ""),
        "zh": (f"各人群的错误率：要求误匹配率 {target} 时的实际值", told, ""),
    }


def search_in_short(result: dict[str, Any]) -> Texts:
    ours, flat, graph = (result["128-d"][name] for name in ("mien", "faiss flat", "faiss hnsw32 ef64"))
    told = f"{ours['p50_ms']:.1f} ms, {ours['search_peak_mb']:,} MB, recall {ours['recall_at_1']:.2f}"
    size, beside = f"{ours['templates']:,}", f"{flat['p50_ms']:.0f} ms, {flat['search_peak_mb']:,} MB"
    fewer, recall = f"{graph['templates']:,}", f"recall {graph['recall_at_1']:.2f}"
    return {
        "en": (f"search among {size} templates", told, f"FAISS flat: {beside}; HNSW, {fewer}: {recall}"),
        "zh": (f"在 {size} 个模板中检索", told, f"FAISS flat：{beside}；HNSW，{fewer} 个：{recall}"),
    }


def grouping_in_short(result: dict[str, Any]) -> Texts:
    methods = result["methods"]
    ours = next(values for name, values in methods.items() if "(mien)" in name)["half B"]["bcubed_f"]
    others = {name: values["half B"]["bcubed_f"] for name, values in methods.items() if "(mien)" not in name}
    best = max(others, key=lambda name: others[name])
    return {
        "en": ("group faces by person, B³ F", f"{ours:.2f}", f"{best}: {others[best]:.2f}"),
        "zh": ("按人分组，B³ F", f"{ours:.2f}", f"{best}：{others[best]:.2f}"),
    }


def expression_in_short(result: dict[str, Any]) -> Texts:
    ours = result["fer2013"][next(iter(result["models"]))]["all"]
    told = f"{percent(ours['accuracy'])} {within(ours['accuracy_interval'])}"
    theirs = percent(result["fer2013"]["mini_xception"]["all"]["accuracy"])
    return {
        "en": ("expressions, FER2013 test split (`expression-resnet27`)", told, f"`fer` (mini-XCEPTION): {theirs}"),
        "zh": ("表情，FER2013 测试集（`expression-resnet27`）", told, f"`fer`（mini-XCEPTION）：{theirs}"),
    }


def generation_in_short(result: dict[str, Any]) -> Texts:
    told, real = percent(result["face_found"]["share"]), percent(result["real_face_found"]["share"])
    return {
        "en": ("`face-vae-96`: a detector finds a face", told, f"real photographs: {real}"),
        "zh": ("`face-vae-96`：检测器找到人脸", told, f"真实照片：{real}"),
    }


def crash_in_short(result: dict[str, Any]) -> Texts:
    rounds, enrolled, lost = result["rounds"], f"{result['acknowledged']:,}", str(result["missing"])
    return {
        "en": (f"enrolments lost in {rounds} crashes (`kill -9`), of {enrolled}", lost, ""),
        "zh": (f"{rounds} 次 `kill -9`，{enrolled} 次登记中丢失的", lost, ""),
    }


HEADLINES: dict[str, Callable[[dict[str, Any]], Texts]] = {
    "speed": speed_in_short,
    "lfw": lfw_in_short,
    "operating_points": operating_points_in_short,
    "fairness": fairness_in_short,
    "search": search_in_short,
    "grouping": grouping_in_short,
    "expression": expression_in_short,
    "generation_face-vae-96": generation_in_short,
    "crash": crash_in_short,
}
"""The rows of the READMEs: what a user asks for first, against what would be used instead."""

SECTIONS: dict[str, tuple[dict[str, str], dict[str, Callable[[dict[str, Any]], Iterator[Texts]]]]] = {
    "recognition": (
        {"en": "Recognition", "zh": "识别"},
        {
            "speed": speed,
            "lfw": lfw,
            "operating_points": operating_points,
            "fairness": fairness,
            "identification": identification,
            "poor_pictures": poor_pictures,
            "degraded": degraded,
            "quality": quality,
            "templates": templates,
            "attributes": attributes,
        },
    ),
    "galleries": (
        {"en": "Galleries and groups", "zh": "人脸库与分组"},
        {
            "search": search,
            "postgres_search": postgres_search,
            "grouping": grouping,
            "crash": crash,
            "crash_postgres": crash_postgres,
            "ingest": ingest,
            "service": service,
        },
    ),
    "expressions": (
        {"en": "Expressions", "zh": "表情"},
        {
            "expression_union": expression,
            "expression": expression,
            "expression_carry_over": expression_carry_over,
        },
    ),
    "generation": (
        {"en": "Generated faces", "zh": "生成的人脸"},
        {
            "generation_face-vae-64": generation,
            "generation_face-gan-64": generation,
            "generation_face-vae-96": generation,
            "generation_face-vae-128": generation,
            "generation_expression-vae-48": generation,
            "generation_expression-gan-48": generation,
            "malformed": malformed,
            "edits": edits,
            "edits_face-vae-96": edits,
            "edits_face-vae-128": edits,
            "generative_peers": generative_peers,
            "likeness": likeness,
            "synthetic_training": synthetic_training,
        },
    ),
    "changed": (
        {"en": "Restored and anonymised faces", "zh": "修复与匿名化的人脸"},
        {"restoration": restoration, "anonymize": anonymize},
    ),
    "video": ({"en": "Moving faces", "zh": "运动中的人脸"}, {"video": video}),
    "running": (
        {"en": "Memory, start and bad input", "zh": "内存、启动与坏输入"},
        {"memory": memory, "generative_training": generative_training, "bad_input": bad_input},
    ),
}
"""The parts of docs/measured: a heading, and for each result the rows that are made from it."""

BY_EMBEDDER = ("lfw", "operating_points")
"""Results of which there may be one for each embedder."""


def result_files(name: str, results: Path) -> list[Path]:
    """Return the files of a result that are there; of one by embedder, that of the default embedder comes first."""
    files = [results / f"{name}.json"]
    if name in BY_EMBEDDER:
        files = [results / f"{name}_{DEFAULT_EMBEDDER}.json", *files, *sorted(results.glob(f"{name}_*.json"))]
    return list(dict.fromkeys(path for path in files if path.exists()))


def read_json(path: Path) -> dict[str, Any]:
    """Read one result."""
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def sections(language: str, results: Path = RESULTS) -> str:
    """Return all tables in one language, each below its heading."""
    parts, machine = [], {}
    for headings, sources in SECTIONS.values():
        lines = []
        for name, rows in sources.items():
            for path in result_files(name, results):
                result = read_json(path)
                machine = machine or result.get("machine", {})
                source = f"[{path.stem}](../benchmarks/results/{path.name})"
                lines += [f"| {' | '.join(texts[language])} | {source} |" for texts in rows(result)]
        if lines:
            parts += [f"## {headings[language]}", "\n".join([HEAD[language], *lines])]
    if machine:
        parts.append(MACHINE[language].format(**machine))
    return "\n\n".join(parts)


def table(language: str, results: Path = RESULTS) -> str:
    """Return the short table of a README in one language."""
    lines, machine = [README_HEAD[language]], {}
    for name, row in HEADLINES.items():
        for path in result_files(name, results)[:1]:
            result = read_json(path)
            machine = machine or result.get("machine", {})
            lines.append(f"| {' | '.join(row(result)[language])} |")
    if machine:
        lines += ["", README_MACHINE[language].format(**machine)]
    return "\n".join(lines)


def verdict_table(language: str, results: Path = RESULTS) -> str:
    """Return the table of what generative models bring in one language."""
    lines = [verdicts.HEAD[language]]
    for name, row in verdicts.ROWS.items():
        for path in result_files(name, results):
            if told := row(read_json(path)):  # a study of which nothing has run yet says nothing
                lines.append(f"| {' | '.join(told[language])} |")
    return "\n".join(lines)


def with_table(text: str, rows: str, markers: tuple[str, str] = (BEGIN, END)) -> str:
    """Return a page with tables between its markers."""
    begin, end = markers
    before, rest = text.split(begin)
    return f"{before}{begin}\n{rows}\n{end}{rest.split(end)[1]}"


def main() -> int:
    """Rewrite the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = []
    for pages, make in ((READMES, table), (MEASURED, sections)):
        for language, path in pages.items():
            text = path.read_text(encoding="utf-8")
            wanted = with_table(text, make(language))
            if pages is READMES:
                wanted = with_table(wanted, verdict_table(language), VERDICTS)
            if wanted != text:
                stale.append(str(path.relative_to(ROOT)))
                if not check:
                    path.write_text(wanted, encoding="utf-8")
    if check and stale:
        print(
            f"{', '.join(stale)} differ from benchmarks/results. Run: python benchmarks/readme_table.py",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
