"""What may leave a device, from what was measured of it."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from experiments.errors import UserError
from experiments.leaderboard import load
from experiments.page.spreadsheet import to_csv
from offloading.figure import Figure
from offloading.option import Option
from offloading.profile import CutProfile, Profile
from splitbench.codecs.container import overhead
from splitbench.codecs.jpeg import Jpeg
from splitbench.codecs.raw_image import RawImage
from splitbench.leaderboard import UNRANKED, LeaderboardError, boards
from splitbench.release import TensorSpec

PLAIN, UNDEFENDED = "Float32(", "NoDefense()"
# The adversary of the headline; what naive ones find, or those who lack a key, says nothing.
HEADLINE = {"threat_client": "weights", "threat_defense": "known", "threat_key": "known"}
DEPLOYED = ["cut", "defense_expression", "codec_expression"]  # what runs, whoever attacks it


@dataclass(frozen=True)
class Evidence:
    """What records say about one model.

    Attributes:
        options: What may leave the device, at every cut that was profiled.
        accuracy: Of the undefended model.
        model: What the records call it.
        source: Where they are.
    """

    options: tuple[Option, ...]
    accuracy: Figure
    model: str
    source: str


def evidence(
    source: Path, profile: Profile, *, model: str, data: str, images: Callable[[], Tensor]
) -> Evidence:
    """Options of one model.

    Measured ones are rows of a leaderboard under the headline adversary, but for those that are not
    ranked, whose numbers are not what they should be. Three kinds are added. The
    image itself, as raw bytes, gives away everything. As JPEG, where nobody measured it, it is
    assumed to give away everything and to cost no accuracy; its length is measured. The undefended
    features of a cut at which nobody measured give away no more than those of the cut before, from
    which they can be computed; that much is assumed.

    Args:
        source: A folder of `splitbench run`, or a leaderboard.csv.
        profile: Of the model; rows at cuts that it does not have are left out.
        model: As the records call it.
        data: Likewise.
        images: Some to encode, ``(n, c, h, w)`` in [0, 1]; asked for only where JPEG has no row.

    Raises:
        UserError: There are no such rows; the message says what there is.
    """
    table = _table(source)
    rows = table[(table["model"] == model) & (table["data"] == data)]
    for name, value in HEADLINE.items():
        rows = rows[rows[name] == value]
    rows = rows[(rows["threat_observations"] == 1) & rows["leakage"].notna()]
    rows = rows[rows["accuracy"].notna() & rows["cut"].isin([*profile.places])]
    rows = rows[[not UNRANKED & {*str(flags).split()} for flags in rows["flags"]]]
    if rows.empty:
        found = table[["data", "model"]].drop_duplicates().itertuples(index=False)
        has = "; ".join(f"{row.model} on {row.data}" for row in found) or "nothing"
        raise UserError(
            f"{source} has no rows of {model} on {data} under an adversary who knows the client "
            f"and the defense, at a cut that was profiled; it has {has}. Make some with "
            f"`splitbench run model={model} data={data}`"
        )
    # who holds other images, or asks more often, is another row: the strongest of them counts
    rows = rows.sort_values("leakage", kind="stable").drop_duplicates(DEPLOYED, keep="last")
    plain = rows[[_is_plain(row) for _, row in rows.iterrows()]]
    measured = list(_measured(rows, plain, profile, str(source)))
    whole = plain["accuracy"].max() if not plain.empty else math.nan
    accuracy = Figure(float(whole), "measured", str(source))
    options = [_raw_image(profile, accuracy), *measured]
    if not any(o.codec.startswith("Jpeg(") for o in measured):
        options.append(_jpeg(images(), accuracy))
    options += _unmeasured(profile, options, accuracy)
    order = profile.places
    return Evidence(
        tuple(sorted(options, key=lambda o: order[o.cut])), accuracy, model, str(source)
    )


def _table(source: Path) -> pd.DataFrame:
    try:
        if source.suffix == ".csv":
            return pd.read_csv(source)
        found = boards(load(source / "cells" if (source / "cells").is_dir() else source))
    except LeaderboardError as error:
        raise UserError(str(error)) from error
    except (OSError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {source}: {error}") from error
    return pd.read_csv(io.StringIO(to_csv(found)))


def _measured(
    rows: pd.DataFrame, plain: pd.DataFrame, profile: Profile, source: str
) -> Iterator[Option]:
    images = {str(row["cut"]): row for _, row in plain.iterrows()}
    for _, row in rows.iterrows():
        if row["cut"] == "input" and str(row["codec_expression"]).startswith("RawImage("):
            continue  # it is there in any case
        beside, cut = images.get(str(row["cut"]), row), profile.at(str(row["cut"]))
        leak, sent = _number(row, "leakage"), _number(row, "leakage_sent", math.nan)
        conditional = not math.isnan(sent)
        whose = "leakage_sent" if conditional else "leakage"
        encode, decode = _number(row, "encode_ms"), _number(row, "decode_ms")
        yield Option(
            cut=str(row["cut"]),
            name=_name(row),
            payload_bytes=_payload(row),
            leakage=Figure(
                max(sent if conditional else leak, 0.0),
                "measured",
                "of images that are sent" if conditional else f"{row['best_attack']}, closed",
                low=_bound(row, f"{whose}_low"),
                high=_bound(row, f"{whose}_high"),
            ),
            accuracy=Figure(_number(row, "accuracy"), "measured", source),
            # what scores above the undefended model by chance has lost nothing
            accuracy_drop=Figure(max(_number(row, "accuracy_drop"), 0.0), "measured", source),
            encode_ms=encode,
            decode_ms=decode,
            client_extra_ms=_extra(
                _number(row, "client_flops_mean", _number(row, "client_flops")),
                _number(beside, "client_flops"),
                cut.head_ms.p50,
            ),
            server_extra_ms=_extra(
                _number(row, "server_flops"), _number(beside, "server_flops"), cut.tail_ms.p50
            ),
            share_sent=_number(row, "share_sent", 1.0),
            exact=_is_plain(row),
            defense=str(row["defense_expression"]),
            codec=str(row["codec_expression"]),
        )


def _raw_image(profile: Profile, accuracy: Figure) -> Option:
    shape = profile.image_shape
    return Option(
        cut="input",
        name="raw image",
        payload_bytes=float(RawImage().payload_bound([TensorSpec("input", shape)])),
        leakage=Figure(1.0, "measured", "it is the image"),
        accuracy=accuracy,
        accuracy_drop=Figure(0.0, "measured", "images have 8 bits"),
        exact=True,
        defense=UNDEFENDED,
        codec=repr(RawImage()),
    )


def _jpeg(images: Tensor, accuracy: Figure) -> Option:
    codec = Jpeg()
    lengths = [len(codec.encode([image])) for image in images]
    return Option(
        cut="input",
        name=codec_words(repr(codec)),
        payload_bytes=sum(lengths) / len(lengths),
        leakage=Figure(1.0, "assumed", "nobody measured what the compression hides"),
        accuracy=Figure(accuracy.value, "assumed", "as of the image itself"),
        accuracy_drop=Figure(0.0, "assumed", "as of the image itself"),
        defense=UNDEFENDED,
        codec=repr(codec),
    )


def _unmeasured(profile: Profile, known: Sequence[Option], accuracy: Figure) -> Iterator[Option]:
    """Undefended features of cuts without a row."""
    leaks = {option.cut: option.leakage.value for option in known if option.exact}
    last = 1.0
    for cut in profile.cuts[1:-1]:
        if cut.name in leaks:
            last = min(last, leaks[cut.name])
            continue
        yield Option(
            cut=cut.name,
            name="undefended",
            payload_bytes=_plain_bytes(cut),
            leakage=Figure(last, "assumed", "no more than the measured cut before it"),
            accuracy=accuracy,
            accuracy_drop=Figure(0.0, "measured", "the same model"),
            exact=True,
            defense=UNDEFENDED,
            codec="Float32()",
        )


def _plain_bytes(cut: CutProfile) -> float:
    return float(cut.bytes + overhead([TensorSpec("", shape) for shape in cut.shapes]))


def _is_plain(row: Any) -> bool:
    exact = str(row["codec_expression"]).startswith(PLAIN)
    return exact and row["defense_expression"] == UNDEFENDED


def _name(row: Any) -> str:
    if _is_plain(row):
        return "undefended"
    return codec_words(str(row["codec_expression"])) if row["cut"] == "input" else row["defense"]


def codec_words(expression: str) -> str:
    """``JPEG quality=25`` of ``Jpeg(quality=25, max_bytes=...)``."""
    name, _, rest = expression.partition("(")
    told = [word for word in rest.rstrip(")").split(", ") if not word.startswith("max_bytes")]
    return " ".join([name.upper() if name == "Jpeg" else name.lower(), *told])


def _payload(row: Any) -> float:
    """Of a message that is sent; the column has the mean over all images."""
    share = _number(row, "share_sent", 1.0)
    return _number(row, "payload_bytes_mean") / share if share > 0 else 0.0


def _extra(mine: float, usual: float, undefended_ms: float) -> float:
    """What a defense adds to one side, in proportion to its operations; early exits save some.

    Times of two records were taken at two moments: their difference says more about what else the
    machine did than about the defense. What a defense does to single values is not counted.
    """
    return undefended_ms * (mine / usual - 1) if mine > 0 and usual > 0 else 0.0


def _bound(row: Any, name: str) -> float | None:
    """One end of an interval of leakage, of which no placement has less than none."""
    found = _number(row, name, math.nan)
    return None if math.isnan(found) else max(found, 0.0)


def _number(row: Any, name: str, otherwise: float = 0.0) -> float:
    value = row.get(name)
    return otherwise if value is None or pd.isna(value) else float(value)
