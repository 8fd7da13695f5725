// Takes the pictures of docs/pictures anew, on the demo project of the real binary.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { call, closeBrowser, PASSWORD, person, Server, signedIn } from './stage.mjs';

const folder = join(import.meta.dirname, '../../docs/pictures');
mkdirSync(folder, { recursive: true });
const server = await Server.start({ demo: true });
const shot = async (page, name) => {
  await page.waitForLoadState('networkidle').catch(() => undefined);
  await page.evaluate(() => document.fonts.ready);
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled', caret: 'hide' });
  console.log(name);
};

const token = () => server.out.match(/token\s+(\S+)/)[1];
const track = (records) => fetch(`${server.base}/track`, { method: 'POST', body: JSON.stringify(records), headers: { 'content-type': 'application/json' } });

/** The pages of the project's data, as they look while a shop is at work. */
async function pictureData(page, tail) {
  const at = '/app/projects/1';
  const took = async (name, path, ready) => {
    await page.goto(at + path);
    await ready();
    await shot(page, name + tail);
  };
  const table = (name) => page.getByRole('table', { name }).waitFor();
  await took('events', '/events', async () => {
    await page.getByText('live', { exact: true }).waitFor();
    const event = (event, user, properties = {}) => ({ event, properties: { token: token(), distinct_id: user, country: 'DE', plan: 'pro', ...properties } });
    await track([event('Page View', 'user-71', { page: '/pricing' }), event('Search', 'user-1204', { results: 12 }), event('Purchase', 'user-71', { amount: 49.5, items: 2 })]);
    await track([event('Sign Up', 'user-1981', { time: 'yesterday' })]);
    await page.locator('.feed > li', { hasText: 'Purchase' }).locator('summary').click();
  });
  await took('insights', '/insights?event=Page View&by=plan', () => table('Figures'));
  if (tail) return;
  await took('users', '/users?where=[{"property":"plan","test":"is","value":"pro"}]&columns=["$name","plan","$last_seen"]', () => table('Users'));
  await took('user', '/users/profile?id=user-71', () => page.locator('.feed > li').first().waitFor());
  await took('lexicon', '/lexicon?view=properties', () => table('Event properties'));
  const day = (ago) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10);
  server.cli(['export', '--project', '1', '--from-date', day(20), '--to-date', day(1), '--output', join(server.dir, 'export')]);
  await took('jobs', '/jobs', () => page.getByText('export 1', { exact: true }).waitFor());
}

const size = { viewport: { width: 1120, height: 700 } };
try {
  const setup = await person(server, size);
  await setup.goto('/setup');
  await setup.getByLabel('Setup code').fill('XXXXX-XXXXX-XXXXX-XXXXX');
  await shot(setup, 'first-run');
  await setup.getByLabel('Setup code').fill(server.setupCode);
  await setup.getByLabel('E-mail').fill('you@example.com');
  await setup.getByLabel('Password').fill(PASSWORD);
  await setup.getByRole('button', { name: 'Make the first account' }).click();
  await setup.getByRole('heading', { name: 'Get started' }).waitFor();
  await setup.context().close();
  for (const [email, role] of [['ana@example.com', 'analyst'], ['ben@example.com', 'admin']]) {
    server.account(email);
    server.cli(['member', 'add', '--project', '1', '--email', email, '--role', role]);
  }
  const secret = server.out.match(/api secret\s+(\S+)/)[1];
  const authorization = `Basic ${Buffer.from(`${secret}:`).toString('base64')}`;
  for (const [agent, path] of [['nightly-export/2.1 (cron)', '/api/2.0/export?from_date=2026-01-01&to_date=2026-01-01'], ['dashboards/1.4', '/api/2.0/events/names?type=general']]) {
    await fetch(server.base + path, { headers: { authorization, 'user-agent': agent } });
  }
  for (const colorScheme of ['light', 'dark']) {
    const page = await signedIn(server, 'you@example.com', { ...size, colorScheme });
    const tail = colorScheme === 'dark' ? '-dark' : '';
    if (!tail) await call(page, 'POST', '/projects/1/keys', { name: 'nightly export', rights: ['export', 'query'], networks: ['10.0.0.0/8'], expires_at: '2027-06-30' });
    for (const [name, path] of [
      ['get-started', '/app/projects/1/start?sdk=node'],
      ['management', '/app/projects/1/settings/management'],
      ['access-keys', '/app/projects/1/settings/access-keys'],
      ['reset', '/app/projects/1/reset-credentials'],
    ]) {
      if (tail ? !['get-started', 'reset'].includes(name) : name === 'reset') continue;
      await page.goto(path);
      await page.getByRole('heading', { level: 1 }).waitFor();
      await shot(page, name + tail);
    }
    await pictureData(page, tail);
    await page.context().close();
  }
  const phone = await signedIn(server, 'you@example.com', { viewport: { width: 390, height: 760 } });
  await phone.goto('/app/projects/1/settings/management');
  await phone.getByRole('heading', { level: 1 }).waitFor();
  await shot(phone, 'management-narrow');
} finally {
  await closeBrowser();
  await server.stop();
}
