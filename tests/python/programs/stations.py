"""A typical program for Cloacina: tasks at module level, a constructor, an SQLite URL, an explicit shutdown.
Two of its tasks read keys of a task that they do not depend on.
"""

import cloaca

STATIONS = 60
PARTS = 3


@cloaca.task(id="collect_readings")
def collect_readings(context):
    readings = [{"station": n, "degrees": (n * 7) % 31 - 5, "coastal": n % 3 == 0} for n in range(STATIONS)]
    context.set("readings", readings)
    return context


@cloaca.task(id="summarize_coast", dependencies=["collect_readings"])
def summarize_coast(context):
    degrees = [reading["degrees"] for reading in context.get("readings") if reading["coastal"]]
    context.set("coast", {"stations": len(degrees), "mean": sum(degrees) / len(degrees)})
    return context


@cloaca.task(id="summarize_inland", dependencies=["collect_readings"])
def summarize_inland(context):
    degrees = [reading["degrees"] for reading in context.get("readings") if not reading["coastal"]]
    context.set("inland", {"stations": len(degrees), "mean": sum(degrees) / len(degrees)})
    return context


@cloaca.task(id="compare_regions", dependencies=["summarize_coast", "summarize_inland"])
def compare_regions(context):
    context.set("comparison", context.get("coast")["mean"] - context.get("inland")["mean"])
    return context


# Reads `readings` without a dependency: it fails and is retried if the readings are not there yet.
@cloaca.task(id="split_stations", retry_delay_ms=100)
def split_stations(context):
    readings = context.get("readings")
    size = len(readings) // PARTS
    context.set("parts", [readings[n * size : (n + 1) * size] for n in range(PARTS)])
    return context


def hottest(context, part):
    best = max(context.get("parts")[part], key=lambda reading: reading["degrees"])
    context.set(f"hottest_{part}", best)
    return context


@cloaca.task(id="search_part_0", dependencies=["split_stations"])
def search_part_0(context):
    return hottest(context, 0)


@cloaca.task(id="search_part_1", dependencies=["split_stations"])
def search_part_1(context):
    return hottest(context, 1)


@cloaca.task(id="search_part_2", dependencies=["split_stations"])
def search_part_2(context):
    return hottest(context, 2)


@cloaca.task(id="join_parts", dependencies=["search_part_0", "search_part_1", "search_part_2"])
def join_parts(context):
    found = [context.get(f"hottest_{part}") for part in range(PARTS)]
    context.set("hottest", max(found, key=lambda reading: reading["degrees"]))
    return context


@cloaca.task(id="rate_heat", dependencies=["join_parts"])
def rate_heat(context):
    context.set("rating", "hot" if context.get("hottest")["degrees"] > 20 else "mild")
    return context


# Reads `comparison` without a dependency on `compare_regions`.
@cloaca.task(id="write_report", dependencies=["rate_heat"])
def write_report(context):
    context.set(
        "report",
        {
            "rating": context.get("rating"),
            "hottest": context.get("hottest")["station"],
            "difference": context.get("comparison"),
        },
    )
    return context


def create_workflow():
    builder = cloaca.WorkflowBuilder("weather")
    builder.description("Diamond, fan-out, fan-in and a chain")
    for task in (
        "collect_readings",
        "summarize_coast",
        "summarize_inland",
        "compare_regions",
        "split_stations",
        "search_part_0",
        "search_part_1",
        "search_part_2",
        "join_parts",
        "rate_heat",
        "write_report",
    ):
        builder.add_task(task)
    return builder.build()


cloaca.register_workflow_constructor("weather", create_workflow)

if __name__ == "__main__":
    runner = cloaca.DefaultRunner("sqlite:///stations.db")
    result = runner.execute("weather", cloaca.Context({"request": "r-1"}))
    print(f"Status: {result.status}")
    report = result.final_context.get("report")
    if result.status == "Completed":
        print(f"Rating: {report['rating']}, hottest: station {report['hottest']}")
        print(f"Difference: {report['difference']:+.1f} degrees")
    runner.shutdown()
    print("Done.")
