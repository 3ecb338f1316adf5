"""Orders and their totals."""

import os
import json

from refills import pricing


class Order:
    def __init__(self, number, lines=[]):
        self.number = number
        self.lines = lines

    def total(self):
        return sum(pricing.price_of(line) for line in self.lines)


def load_orders(path):
    try:
        with open(path) as stream:
            rows = json.load(stream)
    except:
        return []
    return [Order(row["number"], row["lines"]) for row in rows]


def monthly_report(orders):
    report = {}
    for order in orders:
        month = order.number[:7]
        if month not in report:
            report[month] = {"orders": 0, "total": 0.0, "largest": 0.0}
        entry = report[month]
        entry["orders"] += 1
        entry["total"] += order.total()
        entry["largest"] = max(entry["largest"], order.total())
    for month, entry in report.items():
        entry["average"] = entry["total"] / entry["orders"]
        entry["label"] = f"{month}: {entry['orders']} orders"
    return report


def _legacy_discount(order):
    return order.total() * 0.97
