// Reads back what arrived, by signed requests of the old mixpanel-data-export and by Basic ones of the new.
"use strict";
const BasicExport = require("mixpanel-data-export");
const SignedExport = require("mixpanel-data-export-signed");

const day = (offset) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);

// A client of a project at a base. Only the host changes: both libraries have theirs written down.
function reader(Library, project, base) {
  const client = new Library({ api_key: project.api_key, api_secret: project.api_secret });
  const original = client._buildRequestURL;
  client._buildRequestURL = function (method, parameters) {
    return original.call(this, method, parameters).replace(/^https?:\/\/[^/]+/, base);
  };
  return client;
}

// Every stored event, sent twice or not; with names, those alone.
async function exported(project, base, names, more = {}) {
  const range = { from_date: "2015-01-01", to_date: day(0), ...(names ? { event: names } : {}), ...more };
  const rows = await reader(SignedExport, project, base).export(range);
  const is_answer = Array.isArray(rows) && !rows.some((row) => row.error);
  if (!is_answer) throw new Error(`the export answered ${JSON.stringify(rows)}`);
  return rows;
}

// How often events count in reports: what was sent twice counts once.
async function counted(project, base, name) {
  const range = { from_date: day(-5), to_date: day(0) };
  const answer = await reader(SignedExport, project, base).segmentation({ event: name, type: "general", unit: "day", ...range });
  return Object.values(answer.data.values[name] ?? {}).reduce((sum, count) => sum + count, 0);
}

// Profiles by their ids, page by page: of people, or of the groups of a key.
async function profiles(project, base, group_key) {
  const client = reader(SignedExport, project, base);
  const found = {};
  let more = group_key ? { data_group_id: group_key } : {};
  for (let page = 0; ; page++) {
    const answer = await client.engage({ ...more, page });
    if (!answer.results) throw new Error(`engage answered ${JSON.stringify(answer)}`);
    answer.results.forEach((row) => (found[row.$distinct_id] = row.$properties));
    if (answer.results.length < answer.page_size) return found;
    more = { ...more, session_id: answer.session_id };
  }
}

module.exports = { BasicExport, SignedExport, counted, exported, profiles, reader };
