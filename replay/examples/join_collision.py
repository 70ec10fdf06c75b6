"""A wrong price without a failure: two tasks change the same key, and neither sees the other's change."""

import threading
import time

import cloaca

taxed = threading.Event()


@cloaca.task()
def read_price(context: cloaca.Context) -> None:
    context.set("price", 100)


@cloaca.task(dependencies=[read_price])
def add_tax(context: cloaca.Context) -> None:
    context.set("price", context.get("price") + 19)
    taxed.set()


@cloaca.task(dependencies=[read_price])
def take_discount(context: cloaca.Context) -> None:
    taxed.wait(timeout=5)
    time.sleep(0.1)  # It takes a little longer than the tax.
    context.set("price", context.get("price") - 10)


@cloaca.task(dependencies=[add_tax, take_discount])
def print_bill(context: cloaca.Context) -> None:
    context.set("bill", f"{context.get('price')} €")


with cloaca.WorkflowBuilder("billing") as builder:
    for task in (read_price, add_tax, take_discount, print_bill):
        builder.add_task(task)

with cloaca.DefaultRunner("cloaca:///join_collision.db") as runner:
    runner.execute("billing", {})
