"""What the measurements on spheres say of the theorems, in claims and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tightframe.experiments.ufm.spheres import ONE_CLASSIFIER, Row
from tightframe.runs.record import Claim

_GLOBAL = "YN, theorem 3.1"
_STRICT = "YN, theorem 3.2 (d > K and bounded temperatures)"
_BEYOND = "beyond YN, theorem 3.2: d >= K and every temperature, derived in tightframe.ufm.normalized_landscape"
_PLANE = "beyond YN, theorem 3.2, which needs d > K: the curvature that holds a feature, in closed form"
# Eigenvalues are right to this share of the largest one.
_EXACT = 1e-7
# Where the minimum is lower, the loss is too flat about it for cosines to follow from gaps.
_SHARP = 1e-5


def start_claims(rows: Sequence[Row]) -> list[Claim]:
    """Random starts: the minimum, collapse, and the share that reaches it."""
    proven = [row for row in rows if row["proven"]]
    sharp = [row for row in proven if row["minimum"] >= _SHARP]
    wide = [row for row in rows if row["d"] >= row["K"] and not row["proven"]]
    return [
        Claim(
            id="N14.value",
            statement="The closed form is the minimum: how far random starts end below it, proven temperatures",
            source=_GLOBAL,
            expected=0.0,
            observed=max((-row["lowest gap"] for row in proven), default=None),
            tolerance=1e-12,
            note="rounding of a loss is 1e-16 per operation",
        ),
        Claim(
            id="N14.collapse",
            statement="Only collapse is optimal: largest error of a cosine of two classes where a random start is "
            "certified, proven temperatures",
            source=_GLOBAL,
            expected=0.0,
            observed=max((row["error of cosines"] for row in sharp if row["certified"]), default=None),
            tolerance=1e-4,
            note=f"where the minimum is above {_SHARP:g}: a gradient of 1e-10 over curvatures of that size leaves 1e-5",
        ),
        _share("N14.starts.proven", proven, _STRICT, "d > K, proven temperatures"),
        _share("N14.starts.beyond", wide, _BEYOND, "d >= K, temperatures or dimensions that are not proven"),
    ]


def saddle_claims(rows: Sequence[Row], bound: float, turn: float) -> list[Claim]:
    """Constructed critical points: strict saddles, left along the predicted direction."""
    below = [row for row in rows if row["temperature"] < bound]
    above = [row for row in rows if row["temperature"] >= bound]
    errors = [abs(row["curvature"] / row["predicted"] - 1) for row in rows if row["predicted"]]
    return [
        _strict("N14.saddles.proven", below, _STRICT, f"temperatures below {bound:g}"),
        _strict("N14.saddles.beyond", above, _BEYOND, f"temperatures from {bound:g} on"),
        Claim(
            id="N14.directions",
            statement="The constructed way down has the predicted curvature: largest relative error",
            source=_BEYOND,
            expected=0.0,
            observed=max(errors, default=None),
            tolerance=_EXACT,
            note="directions: " + ", ".join(sorted({row["way down"] for row in rows if row["predicted"]})),
        ),
        Claim(
            id="N14.bound",
            statement="The bound on the temperature is where one fixed direction stops leading down: its curvature at "
            f"one classifier for all, tau = 2(d - 2) = {turn:g}",
            source=_BEYOND,
            expected=0.0,
            observed=_at(rows, turn, "fixed mixture"),
            relation="==",
            tolerance=1e-12,
            note=f"the smallest eigenvalue there is {_at(rows, turn, 'smallest eigenvalue'):.3g}",
        ),
    ]


def search_claims(rows: Sequence[Row]) -> list[Claim]:
    """Critical points that were searched for: none of a third kind."""
    found = [row for row in rows if row["found"]]
    return [
        Claim(
            id="N14.searched",
            statement="Every critical point is global or a strict saddle: others that Newton's method finds, d >= K",
            source=_BEYOND,
            expected=0,
            observed=sum(row["kind"] not in ("global", "strict saddle") for row in found) if found else None,
            note=f"{len(found)} of {len(rows)} searches came to a critical point",
        ),
        Claim(
            id="N14.constructions",
            statement="Three constructions lead down from all saddles: saddles that Newton's method finds without one",
            source=_BEYOND,
            expected=0,
            observed=sum(row["way down"] == "eigenvector" for row in found) if found else None,
            note=", ".join(f"{count} {name}" for name, count in Counter(row["way down"] for row in found).items()),
        ),
    ]


def plane_claims(rows: Sequence[Row]) -> list[Claim]:
    """K = 3, d = 2: a feature opposite to its classifier, below and above tau = 2."""
    return [
        _held("N14.plane.below", rows, 1.8, "<=", "a strict saddle, below tau = K - 1"),
        _held("N14.plane.above", rows, 2.5, ">=", "a local minimum, above tau = K - 1"),
    ]


def answer(starts: Sequence[Row], saddles: Sequence[Row], points: Sequence[Row], turn: float) -> str:
    """In words."""
    wide = [row for row in starts if row["d"] >= row["K"]]
    certified, count = (sum(row[name] for row in wide) for name in ("certified", "starts"))
    found = [row for row in points if row["found"]]
    benign = sum(row["kind"] in ("strict saddle", "global") for row in found)
    strict = sum(row["kind"] == "strict saddle" for row in saddles)
    hottest = max(row["temperature"] for row in starts)
    text = (
        f"For d >= K {certified} of {count} random starts end at a certified global minimum, at temperatures up to "
        f"{hottest:g}; {strict} of {len(saddles)} constructed critical points are strict saddles, and {benign} of "
        f"{len(found)} that Newton's method finds are strict saddles or global. "
    )
    text += (
        f"At the temperature where the proof ends, 2(d - 2) = {turn:g}, one fixed direction stops leading down from "
        f"one classifier for all classes (curvature {_at(saddles, turn, 'fixed mixture'):.1g}), while another goes on "
        f"to (smallest eigenvalue {_at(saddles, turn, 'smallest eigenvalue'):.2g}). "
    )
    stuck = [row for row in starts if row["d"] < row["K"] and row["share"] < 1]
    if stuck:
        worst = min(stuck, key=lambda row: row["share"])
        text += (
            f"Dimensions matter: for {worst['cell']} only {worst['share']:.0%} of the starts reach the minimum at "
            f"tau = {worst['temperature']:g}, the others end at points without negative curvature, up to "
            f"{worst['largest gap of the others']:.2g} above it."
        )
    return text.strip()


def _at(rows: Sequence[Row], temperature: float, column: str) -> float:
    """A column at one classifier for all classes."""
    return next(row[column] for row in rows if (row["point"], row["temperature"]) == (ONE_CLASSIFIER, temperature))


def _share(identifier: str, rows: Sequence[Row], source: str, where: str) -> Claim:
    count = sum(row["starts"] for row in rows)
    return Claim(
        id=identifier,
        statement=f"No spurious local minima: share of random starts certified as global, {where}",
        source=source,
        expected=1.0,
        observed=sum(row["certified"] for row in rows) / count if count else None,
        relation=">=",
        note=f"{count} starts of Riemannian trust regions",
    )


def _strict(identifier: str, rows: Sequence[Row], source: str, where: str) -> Claim:
    return Claim(
        id=identifier,
        statement=f"Critical points that are not global are strict saddles: constructed ones that are not, {where}",
        source=source,
        expected=0,
        observed=sum(row["kind"] != "strict saddle" for row in rows) if rows else None,
        note=f"{len(rows)} points: " + ", ".join(dict.fromkeys(row["point"] for row in rows)),
    )


def _held(identifier: str, rows: Sequence[Row], temperature: float, relation: str, kind: str) -> Claim:
    nearest = min(rows, key=lambda row: abs(row["temperature"] - temperature))
    return Claim(
        id=identifier,
        statement=f"For K = 3, d = 2 a feature opposite to its classifier is at {kind}: smallest eigenvalue but the "
        f"rotation's, tau = {nearest['temperature']:.3g}",
        source=_PLANE,
        expected=0.0,
        observed=nearest["smallest eigenvalue"],
        relation=relation,
        note=f"n = {nearest['n']}: the other features must hold the classifiers in place",
    )
