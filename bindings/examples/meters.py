"""Bills a month of electricity for 24 flats with a workflow of 15 tasks: a diamond, a fan-out, a fan-in and a chain.

Run it in an empty directory: it creates the log `meters` there. Then `replay latest` shows what happened.
"""

from typing import Any

import cloaca

FLATS = 24
HOURS = 24 * 30
PRICE_DAY, PRICE_NIGHT = 31, 22  # cents for a kilowatt hour


@cloaca.task()
def read_meters(context: cloaca.Context) -> None:
    """Read every meter: watt hours by day and by night. (Synthetic, and the same in every run.)"""
    readings = [
        {"flat": flat, "day": HOURS * (110 + flat * 37 % 90), "night": HOURS * (40 + flat * 53 % 60)}
        for flat in range(1, FLATS + 1)
    ]
    context.set("readings", readings)


@cloaca.task(dependencies=[read_meters])
def profile_day(context: cloaca.Context) -> None:
    """Compute the first branch of the diamond: the consumption by day."""
    context.set("day_profile", profile(context["readings"], "day"))


@cloaca.task(dependencies=[read_meters])
def profile_night(context: cloaca.Context) -> None:
    """Compute the other branch: the consumption by night."""
    context.set("night_profile", profile(context["readings"], "night"))


def profile(readings: list[dict[str, int]], part: str) -> dict[str, int]:
    """Return the total and the largest consumption in one part of the day, in watt hours."""
    used = [reading[part] for reading in readings]
    return {"total": sum(used), "largest": max(used)}


@cloaca.task(dependencies=[profile_day, profile_night])
def describe_house(context: cloaca.Context) -> None:
    """Join the diamond."""
    day, night = context["day_profile"], context["night_profile"]
    context.set("house", {"used": day["total"] + night["total"], "night_share": night["total"] / day["total"]})


@cloaca.task(dependencies=[read_meters])
def split_flats(context: cloaca.Context) -> None:
    """Split the flats into four shares, one per billing task."""
    context.set("shares", [context["readings"][start::4] for start in range(4)])


def bill_share(context: cloaca.Context, share: int) -> None:
    """Bill the flats of one share, in cents."""
    bills = [
        {"flat": flat["flat"], "cents": (flat["day"] * PRICE_DAY + flat["night"] * PRICE_NIGHT) // 1000}
        for flat in context["shares"][share]
    ]
    context.set(f"bills_{share}", bills)


@cloaca.task(dependencies=[split_flats])
def bill_first(context: cloaca.Context) -> None:
    """Bill the first share."""
    bill_share(context, 0)


@cloaca.task(dependencies=[split_flats])
def bill_second(context: cloaca.Context) -> None:
    """Bill the second share."""
    bill_share(context, 1)


@cloaca.task(dependencies=[split_flats])
def bill_third(context: cloaca.Context) -> None:
    """Bill the third share."""
    bill_share(context, 2)


@cloaca.task(dependencies=[split_flats])
def bill_fourth(context: cloaca.Context) -> None:
    """Bill the fourth share."""
    bill_share(context, 3)


@cloaca.task(dependencies=[bill_first, bill_second, bill_third, bill_fourth])
def collect_bills(context: cloaca.Context) -> None:
    """Join the four shares."""
    bills = [bill for share in range(4) for bill in context[f"bills_{share}"]]
    context.set("bills", sorted(bills, key=lambda bill: bill["flat"]))


@cloaca.task(dependencies=[collect_bills])
def total_bills(context: cloaca.Context) -> None:
    """Sum the bills. The start of the chain."""
    context.set("total", sum(bill["cents"] for bill in context["bills"]))


@cloaca.task(dependencies=[total_bills])
def rank_flats(context: cloaca.Context) -> None:
    """Rank the flats by what they pay, the most expensive first."""
    ranked = sorted(context["bills"], key=lambda bill: (-bill["cents"], bill["flat"]))
    context.set("ranking", [bill["flat"] for bill in ranked])


@cloaca.task(dependencies=[rank_flats])
def find_outliers(context: cloaca.Context) -> None:
    """Find the flats that pay more than a sixth above the mean."""
    limit = context["total"] / len(context["bills"]) * 7 / 6
    context.set("outliers", [bill["flat"] for bill in context["bills"] if bill["cents"] > limit])


@cloaca.task(dependencies=[find_outliers])
def advise(context: cloaca.Context) -> None:
    """Write an advice for each outlier."""
    context.set("advice", [f"flat {flat}: have the meter checked" for flat in context["outliers"]])


@cloaca.task(dependencies=[advise, describe_house])
def write_letter(context: cloaca.Context) -> None:
    """Write the letter. The end of the chain, which also needs the diamond's result."""
    letter: dict[str, Any] = {
        "flats": len(context["bills"]),
        "total": f"{context['total'] / 100:.2f} €",
        "used": f"{context['house']['used'] / 1000:.0f} kWh",
        "dearest": context["ranking"][:3],
        "advice": context["advice"],
    }
    context.set("letter", letter)


TASKS = [
    read_meters,
    profile_day,
    profile_night,
    describe_house,
    split_flats,
    bill_first,
    bill_second,
    bill_third,
    bill_fourth,
    collect_bills,
    total_bills,
    rank_flats,
    find_outliers,
    advise,
    write_letter,
]


def monthly_billing() -> cloaca.Workflow:
    """Build the workflow."""
    builder = cloaca.WorkflowBuilder("monthly_billing")
    builder.description("Bills a house for a month")
    for task in TASKS:
        builder.add_task(task)
    return builder.build()


cloaca.register_workflow_constructor("monthly_billing", monthly_billing)

if __name__ == "__main__":
    with cloaca.DefaultRunner("cloaca:///meters") as runner:
        result = runner.execute("monthly_billing", {"month": "2026-10"})
    result.raise_for_status()
    letter = result.final_context["letter"]
    print(f"{result.workflow_name}: {result.status}, {len(result.tasks)} tasks")
    print(f"{letter['flats']} flats used {letter['used']} and pay {letter['total']}")
    print(f"dearest flats: {', '.join(map(str, letter['dearest']))}")
    for line in letter["advice"]:
        print(line)
