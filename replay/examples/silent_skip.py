"""An invoice without its discount, without a failure: the rule compares with a spelling that is never used."""

import cloaca


@cloaca.task()
def read_order(context: cloaca.Context) -> None:
    context.set("country", "de")
    context.set("total", 200)


@cloaca.task(dependencies=[read_order], trigger_rules=cloaca.context_value("country", "equals", "DE"))
def give_discount(context: cloaca.Context) -> None:
    context.set("total", context.get("total") * 0.9)


@cloaca.task(dependencies=[give_discount])
def write_invoice(context: cloaca.Context) -> None:
    context.set("invoice", f"{context.get('total')} €")


with cloaca.WorkflowBuilder("invoicing") as builder:
    for task in (read_order, give_discount, write_invoice):
        builder.add_task(task)

with cloaca.DefaultRunner("cloaca:///silent_skip.db") as runner:
    runner.execute("invoicing", {})
