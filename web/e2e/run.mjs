// Every test of the page on the real binary, in one browser. Ends with a line of counts.
import { after } from 'node:test';
import { closeBrowser, count, problems, stopServers } from './stage.mjs';
import './data.mjs';
import './door.mjs';
import './founding.mjs';
import './pages.mjs';

after(async () => {
  await closeBrowser();
  await stopServers();
  for (const problem of problems) console.error(problem);
  const failed = count.failed + (problems.length > 0 ? 1 : 0);
  console.log(`the page: ${count.passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
  // What a failed test left open keeps nobody waiting.
  setTimeout(() => process.exit(), 1000).unref();
});
