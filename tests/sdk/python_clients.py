"""PyPI mixpanel sends; mixpanel-utils and mixpanel-query-py read. What comes back is compared with what was sent."""

import datetime
import json
import os
import tempfile
import time
import unittest
import urllib.request

import mixpanel
from mixpanel_query import connection
from mixpanel_query.auth import SecretAuth
from mixpanel_query.client import MixpanelQueryClient
from mixpanel_utils import MixpanelUtils

HTTP = os.environ["SLUICE_HTTP"]
HTTPS = "localhost:" + os.environ["SLUICE_HTTPS_PORT"]
PROJECT = json.load(open(os.environ["SLUICE_PROJECT"]))
ACCOUNT = json.load(open(os.environ["SLUICE_ACCOUNT"]))
TOKEN, KEY, SECRET = PROJECT["token"], PROJECT["api_key"], PROJECT["api_secret"]
DAY = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
connection.Connection.ENDPOINT = connection.Connection.DATA_ENDPOINT = HTTP + "/api"

SENT = {
    "plain": "text",
    "unicode": "Café 中文 🎈",
    "number": 7,
    "float": 1.5,
    "big": 2**63 + 1,
    "yes": True,
    "none": None,
    "list": ["a", 1, None],
    "object": {"inner": {"deep": [1, 2]}},
    "symbols": "a+b&c=d%20?/\\\"'",
}


def utils():
    client = MixpanelUtils(ACCOUNT["secret"], token=TOKEN, service_account_username=ACCOUNT["username"], project_id=PROJECT["project_id"])
    client.raw_api = client.formatted_api = HTTP + "/api"
    client.import_api = HTTP
    return client


def exported(event):
    rows = utils().query_export({"from_date": "2015-01-01", "to_date": DAY, "event": json.dumps([event])})
    return [row["properties"] for row in rows]


def subset(properties):
    return {name: properties.get(name, "absent") for name in SENT}


class Sending(unittest.TestCase):
    def check(self, consumer, event):
        mixpanel.Mixpanel(TOKEN, consumer=consumer).track("user 1", event, SENT)
        if hasattr(consumer, "flush"):
            consumer.flush()
        (row,) = exported(event)
        self.assertEqual(subset(row), SENT)
        self.assertEqual(row["distinct_id"], "user 1")
        self.assertLess(abs(row["time"] - time.time()), 60)

    def test_consumer_over_https(self):
        self.check(mixpanel.Consumer(api_host=HTTPS), "py https")

    def test_consumer_over_http(self):
        self.check(mixpanel.Consumer(events_url=HTTP + "/track"), "py http")

    def test_buffered_consumer(self):
        consumer = mixpanel.BufferedConsumer(api_host=HTTPS)
        client = mixpanel.Mixpanel(TOKEN, consumer=consumer)
        for number in range(120):
            client.track(f"user {number}", "py buffered", {"n": number})
        consumer.flush()
        self.assertEqual(sorted(row["n"] for row in exported("py buffered")), list(range(120)))

    def test_import_with_secret_and_with_service_account(self):
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS))
        client.import_data(KEY, "old", "py import", 1500000000, SENT, api_secret=SECRET)
        credentials = mixpanel.ServiceAccountCredentials(ACCOUNT["username"], ACCOUNT["secret"], str(PROJECT["project_id"]))
        consumer = mixpanel.Consumer(api_host=HTTPS, credentials=credentials)
        mixpanel.Mixpanel(TOKEN, consumer=consumer).import_data(None, "old", "py import", 1500000001, SENT)
        rows = exported("py import")
        self.assertEqual(len(rows), 2)
        for row in rows:
            self.assertEqual((subset(row), row["time"] // 10), (SENT, 150000000))

    def test_people(self):
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS))
        client.people_set("p1", {"plan": "pro", "old": 1, "unicode": SENT["unicode"]})
        client.people_set_once("p1", {"plan": "free", "first": "x"})
        client.people_increment("p1", {"n": 2})
        client.people_increment("p1", {"n": -0.5})
        client.people_append("p1", {"list": "a"})
        client.people_union("p1", {"list": ["a", "b"]})
        client.people_remove("p1", {"list": "a"})
        client.people_unset("p1", ["old"])
        client.people_track_charge("p1", 9.5)
        client.people_set("p2", {"plan": "gone"})
        client.people_delete("p2")
        rows = {row["$distinct_id"]: row["$properties"] for row in utils().query_engage()}
        self.assertNotIn("p2", rows)
        row = rows["p1"]
        self.assertEqual((row["plan"], row["first"], row["n"], row["list"]), ("pro", "x", 1.5, ["b"]))
        self.assertEqual(row["$transactions"][0]["$amount"], 9.5)
        self.assertEqual(row["unicode"], SENT["unicode"])
        self.assertNotIn("old", row)

    def test_groups(self):
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS))
        client.group_set("company", "acme", {"size": 3})
        client.group_union("company", "acme", {"tags": ["x"]})
        url = f"{HTTP}/api/2.0/engage?data_group_id=company&project_id={PROJECT['project_id']}"
        request = urllib.request.Request(url, headers={"Authorization": f"Basic {ACCOUNT['username']}:{ACCOUNT['secret']}"})
        (row,) = json.load(urllib.request.urlopen(request))["results"]
        self.assertEqual((row["$distinct_id"], row["$properties"]["size"], row["$properties"]["tags"]), ("acme", 3, ["x"]))


class Reading(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        events = [
            {"event": "Read", "properties": {"time": 1577836800 + n, "distinct_id": f"r{n % 3}", "$insert_id": f"r{n}", "n": n, "os": ["Linux", "Mac"][n % 2]}}
            for n in range(10)
        ]
        utils().import_events(events, timezone_offset=0)

    def signed(self):
        return MixpanelQueryClient(KEY, SECRET)

    def test_signed_reports(self):
        client = self.signed()
        answer = client.get_segmentation("Read", "2020-01-01", "2020-01-01", unit="day", data_type="general")
        self.assertEqual(answer["data"]["values"], {"Read": {"2020-01-01": 10}})
        answer = client.get_segmentation("Read", "2020-01-01", "2020-01-01", data_type="general", on='properties["os"]', where='properties["n"] >= 4')
        self.assertEqual(answer["data"]["values"], {"Linux": {"2020-01-01": 3}, "Mac": {"2020-01-01": 3}})
        self.assertEqual(client.get_segmentation_sum("Read", "2020-01-01", "2020-01-01", 'properties["n"]')["results"], {"2020-01-01": 45})
        self.assertEqual(client.get_segmentation_average("Read", "2020-01-01", "2020-01-01", on='properties["n"]')["results"], {"2020-01-01": 4.5})
        self.assertEqual(sum(sum(days.values()) for days in client.get_segmentation_numeric(
            "Read", "2020-01-01", "2020-01-01", 'properties["n"]', buckets=5)["data"]["values"].values()), 10)
        self.assertIsInstance(client.get_event_top_names(), list)
        self.assertEqual(client.get_event_properties_top("py buffered", limit=3), client.get_event_properties_top("py buffered", limit=3))
        self.assertEqual(client.get_event_properties_values("no such event", "plain", bucket_id="5"), [])
        self.assertIn("total", client.get_engage(where="defined(properties[\"plan\"])"))
        self.assertEqual(client.get_events(["Read"], "day", 3)["legend_size"], 1)
        self.assertEqual(len(list(client.get_export("2020-01-01", "2020-01-01", event=["Read"]))), 10)

    def test_the_same_with_the_secret(self):
        client = MixpanelQueryClient(KEY, SECRET, auth_class=SecretAuth)
        self.assertEqual(len(list(client.get_export("2020-01-01", "2020-01-01", event=["Read"]))), 10)

    def test_a_wrong_secret_reads_nothing(self):
        with self.assertRaises(urllib.request.HTTPError):
            MixpanelQueryClient(KEY, SECRET + "x").get_event_top_names()
        with self.assertRaises(urllib.request.HTTPError):
            MixpanelQueryClient(TOKEN, TOKEN).get_event_top_names()

    def test_utils_export_to_file_and_back(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "events.json")
            utils().export_events(path, {"from_date": "2020-01-01", "to_date": "2020-01-01", "event": '["Read"]'}, add_gzip_header=True)
            with open(path) as file:
                rows = json.load(file)
        self.assertEqual(sorted(row["properties"]["n"] for row in rows), list(range(10)))
        # What was exported is imported again and counts once.
        utils().import_events(rows, timezone_offset=0)
        answer = self.signed().get_segmentation("Read", "2020-01-01", "2020-01-01", data_type="general")
        self.assertEqual(answer["data"]["values"], {"Read": {"2020-01-01": 10}})

    def test_utils_pages_through_profiles(self):
        utils().import_people([{"$distinct_id": f"page {n}", "$properties": {"n": n, "kind": "paged"}} for n in range(2300)], ignore_alias=True)
        rows = utils().query_engage({"where": 'properties["kind"] == "paged"'})
        self.assertEqual(sorted(row["$properties"]["n"] for row in rows), list(range(2300)))


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=1).result
    print(f"{result.testsRun - len(result.failures) - len(result.errors)} passed, {len(result.failures) + len(result.errors)} failed (python clients)")
    raise SystemExit(0 if result.wasSuccessful() else 1)
