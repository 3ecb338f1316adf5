"""Figures for the owners of the shop."""


def monthly_summary(orders):
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
