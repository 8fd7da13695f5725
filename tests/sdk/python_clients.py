"""PyPI mixpanel sends; mixpanel-utils and mixpanel-query-py read. What comes back is compared with what was sent."""

import contextlib
import datetime
import decimal
import json
import logging
import os
import socket
import tempfile
import time
import unittest
import urllib.request
from unittest import mock

import mixpanel
from mixpanel_query import connection
from mixpanel_query.auth import SecretAuth
from mixpanel_query.client import MixpanelQueryClient
from mixpanel_utils import MixpanelUtils

HTTP = os.environ["SLUICE_HTTP"]
HTTPS = "localhost:" + os.environ["SLUICE_HTTPS_PORT"]
# Where nobody listens.
NOBODY = "localhost:1"
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


def profiles(group_key=None):
    """Profiles by their ids: of people, or of the groups of a key."""
    more = f"&data_group_id={group_key}" if group_key else ""
    url = f"{HTTP}/api/2.0/engage?page_size=10000&project_id={PROJECT['project_id']}{more}"
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {ACCOUNT['username']}:{ACCOUNT['secret']}"})
    return {row["$distinct_id"]: row["$properties"] for row in json.load(urllib.request.urlopen(request))["results"]}


@contextlib.contextmanager
def original_host():
    """The original's name leads to the server, as a line in /etc/hosts would have it."""
    lookup = socket.getaddrinfo
    here = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", int(os.environ["SLUICE_HTTPS_PORT"])))]
    with mock.patch("socket.getaddrinfo", lambda host, *rest, **more: here if host == "api.mixpanel.com" else lookup(host, *rest, **more)):
        yield


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
        # It sends 50 by 50, and the rest when it is told to.
        self.assertEqual(len(exported("py buffered")), 100)
        consumer.flush()
        consumer.flush()
        self.assertEqual(sorted(row["n"] for row in exported("py buffered")), list(range(120)))

    def test_buffered_consumer_of_everything(self):
        credentials = mixpanel.ServiceAccountCredentials(ACCOUNT["username"], ACCOUNT["secret"], str(PROJECT["project_id"]))
        consumer = mixpanel.BufferedConsumer(max_size=10, api_host=HTTPS, credentials=credentials)
        client = mixpanel.Mixpanel(TOKEN, consumer=consumer)
        for number in range(25):
            client.import_data(None, "old", "py buffered import", 1500000000 + number, {"n": number})
            client.people_append("py buffered", {"list": number})
            client.group_union("company", "py buffered", {"list": [number]})
        consumer.flush()
        self.assertEqual(sorted(row["n"] for row in exported("py buffered import")), list(range(25)))
        self.assertEqual(profiles()["py buffered"]["list"], list(range(25)))
        self.assertEqual(profiles("company")["py buffered"]["list"], list(range(25)))

    def test_meta_and_serializer(self):
        class Plain(mixpanel.DatetimeSerializer):
            def default(self, obj):
                return obj.to_eng_string() if isinstance(obj, decimal.Decimal) else super().default(obj)

        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS), serializer=Plain)
        client.track("user 1", "py meta", {"price": decimal.Decimal("12.05"), "at": datetime.datetime(2014, 2, 14, 1, 2, 3)}, meta={"ip": 0})
        (row,) = exported("py meta")
        self.assertEqual((row["price"], row["at"], row["mp_lib"], row["$lib_version"]), ("12.05", "2014-02-14T01:02:03", "python", mixpanel.__version__))

    def test_import_with_every_credential(self):
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS))
        client.import_data(KEY, "old", "py import", 1500000000, SENT, api_secret=SECRET)
        credentials = mixpanel.ServiceAccountCredentials(ACCOUNT["username"], ACCOUNT["secret"], str(PROJECT["project_id"]))
        consumer = mixpanel.Consumer(api_host=HTTPS, credentials=credentials)
        mixpanel.Mixpanel(TOKEN, consumer=consumer).import_data(None, "old", "py import", 1500000001, SENT)
        rows = exported("py import")
        self.assertEqual(len(rows), 2)
        for row in rows:
            self.assertEqual((subset(row), row["time"] // 10, row["$import"]), (SENT, 150000000, True))
        # A merge is taken in the same two ways.
        client.merge(KEY, "merged 1", "merged 2", api_secret=SECRET)
        mixpanel.Mixpanel(TOKEN, consumer=consumer).merge(None, "merged 1", "merged 2")

    def test_alias(self):
        # It always asks the original's host, whatever consumer there is.
        with original_host():
            mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=NOBODY)).alias("py alias", "original")
        self.assertIn("py alias", [row["alias"] for row in exported("$create_alias")])

    def test_what_the_server_refuses_is_an_exception(self):
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS))
        with self.assertRaisesRegex(mixpanel.MixpanelException, r"^Mixpanel error: \$distinct_id, missing or empty$"):
            client.people_set("", {"plan": "x"})
        with self.assertRaisesRegex(mixpanel.MixpanelException, "^Mixpanel error: token, missing or empty$"):
            mixpanel.Mixpanel("", consumer=mixpanel.Consumer(api_host=HTTPS)).track("user 1", "py refused")
        with self.assertRaisesRegex(mixpanel.MixpanelException, "^Mixpanel error: .*secret"):
            client.import_data(KEY, "old", "py refused", 1500000000, {}, api_secret="no such secret")
        for message in ['"Event"', "[]", "{}", "[{}]", '{"event":']:
            with self.assertRaisesRegex(mixpanel.MixpanelException, "^Mixpanel error: .+"):
                mixpanel.Consumer(api_host=HTTPS).send("events", message)
        with self.assertRaises(mixpanel.MixpanelException):
            mixpanel.Consumer(api_host=HTTPS).send("unknown", "1")
        with self.assertRaises(mixpanel.MixpanelException):
            mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=NOBODY, retry_limit=0)).track("user 1", "py refused")
        # A batch that is refused says which one it was.
        consumer = mixpanel.BufferedConsumer(api_host=HTTPS)
        consumer.send("people", json.dumps({"$token": TOKEN, "$distinct_id": "", "$set": {"a": 1}}))
        with self.assertRaises(mixpanel.MixpanelException) as raised:
            consumer.flush()
        self.assertEqual(raised.exception.endpoint, "people")
        self.assertEqual(exported("py refused"), [])

    def test_people(self):
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS))
        client.people_set("p1", {"plan": "pro", "old": 1, "unicode": SENT["unicode"], "$created": datetime.datetime(2014, 2, 14, 1, 2, 3)})
        client.people_set_once("p1", {"plan": "free", "first": "x"}, meta={"$ip": 0, "$ignore_time": True})
        client.people_increment("p1", {"n": 2})
        client.people_increment("p1", {"n": -0.5})
        client.people_append("p1", {"list": "a"})
        client.people_union("p1", {"list": ["a", "b"]})
        client.people_remove("p1", {"list": "a"})
        client.people_unset("p1", ["old"])
        client.people_track_charge("p1", 9.5, {"$time": "2013-04-01T09:02:00"})
        client.people_track_charge("p3", 1)
        client.people_clear_charges("p3")
        client.people_update({"$distinct_id": "p3", "$set": {"by": "update"}})
        client.people_set("p2", {"plan": "gone"})
        client.people_delete("p2")
        rows = {row["$distinct_id"]: row["$properties"] for row in utils().query_engage()}
        self.assertNotIn("p2", rows)
        row = rows["p1"]
        self.assertEqual((row["plan"], row["first"], row["n"], row["list"], row["$created"]), ("pro", "x", 1.5, ["b"], "2014-02-14T01:02:03"))
        self.assertEqual(row["$transactions"], [{"$time": "2013-04-01T09:02:00", "$amount": 9.5}])
        self.assertEqual(row["unicode"], SENT["unicode"])
        self.assertNotIn("old", row)
        self.assertEqual((rows["p3"].get("$transactions"), rows["p3"]["by"]), (None, "update"))

    def test_groups(self):
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS))
        client.group_set("company", "acme", {"size": 3, "old": 1})
        client.group_set_once("company", "acme", {"size": 9, "first": "x"})
        client.group_union("company", "acme", {"tags": ["x", "y"]})
        client.group_remove("company", "acme", {"tags": "x"})
        client.group_unset("company", "acme", ["old"])
        client.group_update({"$group_key": "company", "$group_id": "acme", "$set": {"by": "update"}})
        client.group_set("company", "py gone", {"size": 1})
        client.group_delete("company", "py gone")
        groups = profiles("company")
        acme = {name: value for name, value in groups["acme"].items() if not name.startswith("$")}
        self.assertEqual(acme, {"size": 3, "first": "x", "tags": ["y"], "by": "update"})
        self.assertNotIn("py gone", groups)

    def test_flags(self):
        config = mixpanel.flags.types.RemoteFlagsConfig(api_host=HTTPS)
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS), remote_flags_config=config)
        with self.assertNoLogs("mixpanel", logging.ERROR):
            self.assertEqual(client.remote_flags.get_variant_value("new shop", "old", {"distinct_id": "user 1"}), "old")
            self.assertFalse(client.remote_flags.is_enabled("new shop", {"distinct_id": "user 1"}))
        config = mixpanel.flags.types.LocalFlagsConfig(api_host=HTTPS, enable_polling=False)
        client = mixpanel.Mixpanel(TOKEN, consumer=mixpanel.Consumer(api_host=HTTPS), local_flags_config=config)
        with self.assertNoLogs("mixpanel", logging.ERROR):
            client.local_flags.start_polling_for_definitions()
            self.assertTrue(client.local_flags.are_flags_ready())
            self.assertEqual(client.local_flags.get_variant_value("new shop", "old", {"distinct_id": "user 1"}), "old")


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


    def test_utils_changes_profiles(self):
        who = [{"$distinct_id": "utils", "$properties": {}}]
        client = utils()
        client.people_set({"plan": "pro", "old": 1}, profiles=who)
        client.people_set_once({"plan": "free", "first": "x"}, profiles=who)
        client.people_add({"n": 3}, profiles=who)
        client.people_append({"list": "a"}, profiles=who)
        client.people_union({"list": ["a", "b"]}, profiles=who)
        client.people_remove({"list": "a"}, profiles=who)
        client.people_unset(["old"], profiles=who)
        client.import_people([{"$distinct_id": "utils gone", "$properties": {"kind": "gone"}}])
        client.people_delete(query_params={"where": 'properties["kind"] == "gone"'}, backup=False)
        rows = profiles()
        self.assertEqual({name: rows["utils"].get(name) for name in ("plan", "first", "n", "list", "old")}, {"plan": "pro", "first": "x", "n": 3, "list": ["b"], "old": None})
        self.assertNotIn("utils gone", rows)


if __name__ == "__main__":
    # What it advises against works, and is tried.
    logging.getLogger("mixpanel").setLevel(logging.ERROR)
    result = unittest.main(exit=False, verbosity=1, warnings="ignore").result
    print(f"{result.testsRun - len(result.failures) - len(result.errors)} passed, {len(result.failures) + len(result.errors)} failed (python clients)")
    raise SystemExit(0 if result.wasSuccessful() else 1)
