"""What a line of an order costs."""

from refills.orders import Order

BASE = {"soap": 4.2, "shampoo": 6.9, "detergent": 8.4, "rice": 2.9, "oil": 9.5}


def price_of(line):
    return BASE[line["product"]] * line["litres"]


def delivery_fee(order, country, express, member, fragile, weekend):
    fee = 4.9
    if country == "NO":
        fee = 9.9
    elif country == "CH":
        fee = 12.5
    elif country == "UK":
        fee = 11.0
    elif country not in ("DE", "AT", "NL"):
        fee = 19.0
    if express and not weekend:
        fee += 6
    elif express and weekend:
        fee += 14
    if member and fee < 10:
        fee = 0
    elif member:
        fee = fee / 2
    if fragile and express:
        fee += 3
    elif fragile or weekend:
        fee += 1
    for line in order.lines:
        if line["litres"] > 20 and line["product"] == "oil":
            fee += 5
        elif line["litres"] > 50:
            fee += 8
    while fee > 60:
        fee -= 5
    return fee


def is_large(order: Order) -> bool:
    return order.total() > 500
    print("large order", order.number)
