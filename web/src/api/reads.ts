// The few reports that the page itself reads, by the session of whoever signed in. They are Mixpanel's wire, which has no OpenAPI document of
// ours: what is read of it is typed here.
import createClient from 'openapi-fetch';
import { Refused } from './client';

type TopEvents = { type: string; events: { event: string; amount: number; percent_change: number }[] };

type Paths = {
  '/events/top': {
    get: {
      parameters: { query: { project_id: number; type: 'general'; limit?: number } };
      responses: { 200: { content: { 'application/json': TopEvents } } };
    };
  };
  '/events/names': {
    get: {
      parameters: { query: { project_id: number; type: 'general'; limit?: number } };
      responses: { 200: { content: { 'application/json': string[] } } };
    };
  };
};

const reads = createClient<Paths>({ baseUrl: '/api/query' });

async function read<T>(call: Promise<{ data?: T; response: Response }>): Promise<T> {
  const { data, response } = await call;
  if (data === undefined) throw new Refused(response.status, 'unread', `the server answered ${response.status}`);
  return data;
}

/** What arrived today, the most frequent first. */
export const topEvents = (project: number) => read(reads.GET('/events/top', { params: { query: { project_id: project, type: 'general', limit: 20 } } }));
/** Whether anything arrived in the last month, and how it is called. */
export const eventNames = (project: number) => read(reads.GET('/events/names', { params: { query: { project_id: project, type: 'general', limit: 1 } } }));
