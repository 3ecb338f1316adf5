from refills.pricing import price_of


def test_a_litre_of_soap_has_its_price():
    assert price_of({"product": "soap", "litres": 1}) == 4.2
