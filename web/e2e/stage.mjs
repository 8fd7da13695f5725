// What every test stands on: the real binary on a directory of its own, its command line, one browser, and people who sign in to it.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test as nodeTest } from 'node:test';
import { chromium } from 'playwright-core';

const root = resolve(import.meta.dirname, '../..');
const binary = process.env.SLUICE_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'debug/sluice');
export const PASSWORD = 'correct horse battery';

/** A running server. */
export class Server {
  static async start({ demo = false } = {}) {
    const server = new Server();
    server.dir = mkdtempSync(join(tmpdir(), 'sluice-web-'));
    const args = ['serve', '--listen', '127.0.0.1:0', '--data', join(server.dir, 'data'), ...(demo ? ['--demo', '--tls-listen', '127.0.0.1:0'] : [])];
    server.child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    server.out = '';
    server.child.stdout.on('data', (text) => (server.out += text));
    server.child.stderr.on('data', (text) => (server.out += text));
    for (let tries = 0; !/setup code: \S+/.test(server.out); tries++) {
      assert(tries < 600 && server.child.exitCode === null, `the server did not start:\n${server.out}`);
      await new Promise((done) => setTimeout(done, 50));
    }
    server.base = server.out.match(/listening on (http:\S+)/)[1];
    server.setupCode = server.out.match(/setup code: (\S+)/)[1];
    return server;
  }

  /** Runs a command; what it prints is read as JSON where it is. */
  cli(args, input = '') {
    const text = execFileSync(binary, [...args, '--data', join(this.dir, 'data')], { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }

  /** Starts a command that goes on beside the test; ends when it does. */
  begin(args, input = '') {
    const child = spawn(binary, [...args, '--data', join(this.dir, 'data')], { stdio: ['pipe', 'ignore', 'ignore'] });
    child.stdin.end(input);
    return new Promise((done) => child.once('exit', done));
  }

  account(email) {
    this.cli(['account', 'create', '--email', email, '--password-stdin'], PASSWORD);
  }

  /** A project of an owner, with members by role. */
  project(name, owner, members = {}) {
    const made = this.cli(['project', 'create', '--owner', owner, '--name', name, '--json']);
    for (const [role, email] of Object.entries(members)) this.cli(['member', 'add', '--project', String(made.project_id), '--email', email, '--role', role]);
    return made;
  }

  /** The newest mail with these words. */
  async mail(...words) {
    const box = join(this.dir, 'data/mail');
    for (let tries = 0; tries < 100; tries++) {
      const mails = existsSync(box) ? readdirSync(box).sort().reverse().map((name) => readFileSync(join(box, name), 'utf8')) : [];
      const found = mails.find((mail) => words.every((word) => mail.includes(word)));
      if (found) return found;
      await new Promise((done) => setTimeout(done, 50));
    }
    throw new Error(`no mail with ${words.join(', ')}`);
  }

  /** A link of a mail, made whole where the mail's lines are folded. */
  async link(...words) {
    const mail = (await this.mail(...words)).replace(/=\r?\n/g, '').replace(/=3D/g, '=').replace(/=23/g, '#');
    return mail.match(/http:\/\/\S+#\S+/)[0];
  }

  async stop() {
    this.child.kill('SIGTERM');
    await new Promise((done) => (this.child.exitCode === null ? this.child.once('exit', done) : done()));
    rmSync(this.dir, { recursive: true, force: true });
  }
}

let browser;
/** The one browser of all tests. */
export async function theBrowser() {
  browser ??= await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  return browser;
}
export async function closeBrowser() {
  await browser?.close();
}

/** What went wrong on any page: errors of scripts, and what the page's policy refused. */
export const problems = [];

/** A person with a browser profile of their own. */
export async function person(server, options = {}) {
  const context = await (await theBrowser()).newContext({ baseURL: server.base, reducedMotion: 'reduce', locale: 'en-GB', timezoneId: 'UTC', ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server.base });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.on('pageerror', (error) => problems.push(`${page.url()}: ${error}`));
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !/Failed to load resource/.test(text)) problems.push(`${page.url()}: ${text}`);
  });
  return page;
}

/** Signs in by the form. */
export async function signIn(page, email, password = PASSWORD) {
  await page.goto('/sign-in');
  await page.getByLabel('E-mail').fill(email);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('button', { name: 'Settings' }).waitFor();
  return page;
}

export async function signedIn(server, email, options) {
  return signIn(await person(server, options), email);
}

/** Types the password where a fresh proof is asked for. */
export async function prove(page) {
  const dialog = page.getByRole('dialog', { name: 'Prove that it is you' });
  await dialog.getByLabel('Password').fill(PASSWORD);
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await dialog.waitFor({ state: 'hidden' });
}

/** Calls the management API as the page's session does, from its own page. */
export function call(page, method, path, body) {
  return page.evaluate(
    async ([method, path, body]) => {
      const headers = body === undefined ? {} : { 'content-type': 'application/json' };
      const answer = await fetch(`/api/v1${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
      return { status: answer.status, body: await answer.json() };
    },
    [method, path, body],
  );
}

/** What ran. */
export const count = { passed: 0, failed: 0 };
const servers = [];
export async function stopServers() {
  for (const server of servers) await server.stop();
}

/** A stage that is set once, when the first test asks for it. */
export function scenario(make) {
  let made;
  return () =>
    (made ??= make().then((stage) => {
      servers.push(stage.server);
      return stage;
    }));
}

/** A test with a name that says what holds. `WEB_TEST=word` runs those whose name has the word. */
export function test(name, run) {
  if (!name.includes(process.env.WEB_TEST ?? '')) return;
  nodeTest(name, async () => {
    try {
      await run();
      count.passed += 1;
    } catch (error) {
      count.failed += 1;
      throw error;
    }
  });
}
