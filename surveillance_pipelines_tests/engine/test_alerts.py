from surveillance_pipelines.engine.alerts import AlertEvent, OpenAlerts


def test_bar_in_progress_opens_one_alert_and_its_close_confirms_it():
    alerts = OpenAlerts()
    assert alerts.on_provisional(None) == []
    assert alerts.on_provisional("price_gap") == [AlertEvent("price_gap", "opened")]
    assert alerts.on_provisional("price_gap") == alerts.on_provisional("ramping") == []
    assert alerts.on_final("price_gap") == [AlertEvent("price_gap", "confirmed")]
    assert alerts.kinds == ()


def test_close_of_another_kind_confirms_it_and_retracts_the_open_alert():
    alerts = OpenAlerts()
    alerts.on_provisional("price_gap")
    assert alerts.on_final("ramping") == [AlertEvent("ramping", "confirmed"), AlertEvent("price_gap", "retracted")]


def test_close_without_an_anomaly_retracts_every_alert_of_an_older_state():
    alerts = OpenAlerts(("price_gap", "ramping"))
    assert alerts.on_final(None) == [AlertEvent("price_gap", "retracted"), AlertEvent("ramping", "retracted")]
