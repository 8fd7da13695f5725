// What holds on every page: it can be read by everybody, in both themes and on narrow screens; it runs nothing of others; it is small.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { call, person, problems, scenario, Server, signedIn, test } from './stage.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const OWNER = 'owner@example.com';
/** What others can name things, at its worst. */
const HOSTILE = `<img src=x onerror="window.hit=1">'"\u202Etxt${'&lt;'}{{7*7}}`;

const stage = scenario(async () => {
  const server = await Server.start();
  server.account(OWNER);
  server.account('member@example.com');
  const project = server.project(HOSTILE, OWNER, { analyst: 'member@example.com' });
  const headers = { 'content-type': 'application/json' };
  const properties = { token: project.token, distinct_id: HOSTILE, [HOSTILE]: HOSTILE };
  await fetch(`${server.base}/track`, { method: 'POST', headers, body: JSON.stringify([{ event: HOSTILE, properties }]) });
  const profile = { $token: project.token, $distinct_id: HOSTILE, $set: { [HOSTILE]: HOSTILE, $name: HOSTILE } };
  await fetch(`${server.base}/engage`, { method: 'POST', headers, body: JSON.stringify([profile]) });
  const read = { authorization: `Basic ${Buffer.from(`${project.api_secret}:`).toString('base64')}`, 'user-agent': HOSTILE.replace('\u202E', '') };
  await fetch(`${server.base}/api/2.0/events/names?type=general`, { headers: read });
  const page = await signedIn(server, OWNER);
  const at = `/projects/${project.project_id}`;
  for (const [method, path, body] of [
    ['POST', `${at}/keys`, { name: HOSTILE, rights: ['export'] }],
    ['POST', `${at}/service-accounts`, { name: 'script', role: 'consumer' }],
    ['POST', `${at}/tickets`, { reason: HOSTILE }],
    ['POST', `${at}/invitations`, { email: 'waits@example.com', role: 'consumer' }],
    ['POST', '/account/bearer-tokens', { name: HOSTILE }],
  ]) {
    const { status, body: answer } = await call(page, method, path, body);
    assert.equal(status, 200, `${path}: ${JSON.stringify(answer)}`);
  }
  return { server, project, page };
});

const DOORS = ['/sign-in', '/setup', '/invitation', '/reset-password', '/reset-password#code', '/confirm-email'];
const pagesOf = (id) => [
  ...['overview', 'management', 'access-keys', 'members', 'data'].map((tab) => `/app/projects/${id}/settings/${tab}`),
  ...['start', 'audit', 'support', 'reset-credentials'].map((name) => `/app/projects/${id}/${name}`),
  ...['general', 'projects', 'security'].map((tab) => `/app/account/${tab}`),
  ...['users', `users/profile?id=${encodeURIComponent(HOSTILE)}`, `insights?by=${encodeURIComponent(HOSTILE)}`, 'jobs', 'events', 'events?view=rejected', 'lexicon', 'lexicon?view=profiles'].map((name) => `/app/projects/${id}/${name}`),
  '/app/projects/new',
  '/app/instance/tickets',
  '/app/instance/accounts',
  '/app/instance/audit',
  '/app/instance/unknown-tokens',
  '/app/projects/999/start',
];

/** Opens a page and waits until nothing on it is being read any more. */
async function open(page, path) {
  await page.goto('about:blank');
  await page.goto(path);
  await page.getByRole('heading', { level: 1 }).waitFor();
  await page.waitForFunction(() => !document.querySelector('[aria-label="Loading"]'));
}

async function violations(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const serious = found.violations.filter((violation) => ['serious', 'critical'].includes(violation.impact));
  return serious.map((violation) => `${violation.id}: ${violation.nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`);
}

test('every page is accessible in both themes, and fits a narrow screen', async () => {
  const { server, project, page } = await stage();
  const visitor = await person(server);
  const found = [];
  const look = async (page, path) => {
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      for (const violation of await violations(page)) found.push(`${path} (${colorScheme}): ${violation}`);
    }
    await page.setViewportSize({ width: 360, height: 740 });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    if (width > 360) found.push(`${path}: ${width} pixels wide on a screen of 360`);
    await page.setViewportSize({ width: 1280, height: 800 });
  };
  for (const path of DOORS) {
    await open(visitor, path);
    await look(visitor, path);
  }
  for (const path of pagesOf(project.project_id)) {
    await open(page, path);
    await look(page, path);
  }
  await visitor.context().close();
  assert.deepEqual(found, []);
});

test('menus and dialogs are accessible too', async () => {
  const { project, page } = await stage();
  const found = [];
  const look = async (what) => {
    for (const violation of await violations(page)) found.push(`${what}: ${violation}`);
  };
  await open(page, `/app/projects/${project.project_id}/settings/access-keys`);
  for (const name of ['Settings', 'Profile', /^Project: /]) {
    await page.getByRole('button', { name }).click();
    await page.getByRole('menu').waitFor();
    await look(String(name));
    await page.keyboard.press('Escape');
    await page.getByRole('menu').waitFor({ state: 'detached' });
  }
  for (const name of ['Create key', 'Create service account']) {
    await page.getByRole('button', { name }).click();
    await page.getByRole('dialog').waitFor();
    await look(name);
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  }
  assert.deepEqual(found, []);
});

test('what others named is text on every page, and runs nowhere', async () => {
  const { project, page } = await stage();
  let seen = 0;
  for (const path of pagesOf(project.project_id)) {
    await open(page, path);
    assert.equal(await page.locator('img').count(), 0, path);
    assert.equal(await page.evaluate(() => window.hit), undefined, path);
    seen += await page.getByText('<img src=x onerror=').count();
  }
  assert.ok(seen > 10, `${seen} hostile names were shown`);
  assert.ok((await page.title()).length > 0);
});

test('secrets are in no source, no history and no storage, and go when the page is hidden', async () => {
  const { server, project } = await stage();
  const page = await signedIn(server, OWNER);
  await open(page, `/app/projects/${project.project_id}/settings/management`);
  const answers = [];
  page.on('response', (response) => response.url().includes('/reveal') && answers.push(response));
  await page.getByRole('button', { name: 'Reveal API secret' }).first().click();
  await page.getByText(project.api_secret).waitFor();
  assert.equal(answers[0].headers()['cache-control'], 'no-store');
  const kept = () =>
    page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, history.state, location.href, document.cookie]));
  assert.ok(!(await kept()).includes(project.api_secret));
  await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await page.getByText(project.api_secret).waitFor({ state: 'detached' });
  // Leaving the place drops it too, and coming back asks again.
  await page.getByRole('button', { name: 'Reveal API secret' }).first().click();
  await page.getByText(project.api_secret).waitFor();
  await page.getByRole('tab', { name: 'Members' }).click();
  await page.getByRole('tab', { name: 'Members', selected: true }).waitFor();
  await page.goBack();
  await page.getByRole('button', { name: 'Reveal API secret' }).first().waitFor();
  assert.ok(!(await page.content()).includes(project.api_secret));
  assert.deepEqual(JSON.parse(await page.evaluate(() => JSON.stringify(Object.keys(localStorage).filter((key) => !key.startsWith('mantine-color-scheme'))))), []);
  await page.context().close();
});

test('the document runs nothing but its own files, is kept by nobody, and shadows no path of the wire', async () => {
  const { server, project } = await stage();
  for (const path of ['/', '/sign-in', '/setup', '/invitation', '/reset-password', '/confirm-email', '/app', `/app/projects/${project.project_id}/start`]) {
    const answer = await fetch(server.base + path);
    const [html, policy] = [await answer.text(), answer.headers.get('content-security-policy')];
    assert.equal(answer.status, 200, path);
    assert.equal(answer.headers.get('cache-control'), 'no-store', path);
    assert.doesNotMatch(policy, /unsafe|\*|http:/);
    assert.match(policy, /script-src 'self';/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(html, /<script(?![^>]*src=)/, 'no inline script');
    assert.doesNotMatch(html, /\bon\w+=|__NONCE__/);
    assert.ok(!html.includes(project.token), 'the document holds nothing of anybody');
  }
  for (const [path, kind] of [['/api/v1/instance', 'application/json'], ['/api/nothing', 'application/json'], ['/track', 'text/plain'], ['/application', 'application/json']]) {
    assert.match((await fetch(server.base + path)).headers.get('content-type'), new RegExp(kind), path);
  }
  const html = await (await fetch(`${server.base}/`)).text();
  for (const [, path] of html.matchAll(/(?:src|href)="(\/static\/[^"]+)"/g)) {
    const answer = await fetch(server.base + path, { headers: { 'accept-encoding': 'br' } });
    assert.equal(answer.headers.get('cache-control'), 'public, max-age=31536000, immutable', path);
    assert.equal(answer.headers.get('content-encoding'), 'br', path);
    assert.equal(answer.headers.get('x-content-type-options'), 'nosniff', path);
  }
  assert.equal((await fetch(`${server.base}/static/assets/nothing.js`)).status, 404);
});

test('a first load takes at most 300 KB of gzipped JavaScript', async () => {
  const { server, project } = await stage();
  const page = await signedIn(server, OWNER);
  const scripts = new Set();
  page.on('request', (request) => request.resourceType() === 'script' && scripts.add(request.url()));
  await open(page, `/app/projects/${project.project_id}/start`);
  let bytes = 0;
  for (const url of scripts) bytes += Number((await fetch(url, { headers: { 'accept-encoding': 'gzip' } })).headers.get('content-length'));
  console.log(`first load: ${scripts.size} scripts, ${bytes} bytes gzipped`);
  assert.ok(bytes > 50_000 && bytes <= 300_000, `${bytes} bytes`);
  await page.context().close();
});

test('no page broke its own policy or threw', async () => {
  assert.deepEqual(problems, []);
});
