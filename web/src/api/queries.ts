// What the page reads, under the names that it is kept by. Nothing that holds a secret is read here: secrets live in one component's state.
import { queryOptions } from '@tanstack/react-query';
import { api, done } from './client';

const project = (id: number) => ({ params: { path: { project: id } } });

export const instanceQuery = queryOptions({ queryKey: ['instance'], queryFn: () => done(api.GET('/instance')) });
export const sessionQuery = queryOptions({ queryKey: ['session'], queryFn: () => done(api.GET('/session')), staleTime: 60_000 });
export const projectsQuery = queryOptions({ queryKey: ['projects'], queryFn: () => done(api.GET('/projects')), refetchInterval: 30_000 });
export const transfersQuery = queryOptions({ queryKey: ['transfers'], queryFn: () => done(api.GET('/transfers')) });
export const sessionsQuery = queryOptions({ queryKey: ['sessions'], queryFn: () => done(api.GET('/sessions')) });
export const bearerTokensQuery = queryOptions({ queryKey: ['bearer-tokens'], queryFn: () => done(api.GET('/account/bearer-tokens')) });
export const allTicketsQuery = queryOptions({ queryKey: ['tickets'], queryFn: () => done(api.GET('/tickets')), refetchInterval: 30_000 });
export const accountsQuery = queryOptions({ queryKey: ['accounts'], queryFn: () => done(api.GET('/accounts')) });

const below = (id: number, what: string) => ['project', id, what] as const;

export const keysQuery = (id: number) =>
  queryOptions({ queryKey: below(id, 'keys'), queryFn: () => done(api.GET('/projects/{project}/keys', project(id))), refetchInterval: 15_000 });
export const membersQuery = (id: number) =>
  queryOptions({ queryKey: below(id, 'members'), queryFn: () => done(api.GET('/projects/{project}/members', project(id))) });
export const invitationsQuery = (id: number) =>
  queryOptions({ queryKey: below(id, 'invitations'), queryFn: () => done(api.GET('/projects/{project}/invitations', project(id))) });
export const serviceAccountsQuery = (id: number) =>
  queryOptions({ queryKey: below(id, 'service-accounts'), queryFn: () => done(api.GET('/projects/{project}/service-accounts', project(id))) });
export const callersQuery = (id: number) =>
  queryOptions({ queryKey: below(id, 'callers'), queryFn: () => done(api.GET('/projects/{project}/callers', project(id))), refetchInterval: 15_000 });
export const transferQuery = (id: number) =>
  queryOptions({ queryKey: below(id, 'transfer'), queryFn: () => done(api.GET('/projects/{project}/transfer', project(id))) });
export const ticketsQuery = (id: number) =>
  queryOptions({ queryKey: below(id, 'tickets'), queryFn: () => done(api.GET('/projects/{project}/tickets', project(id))), refetchInterval: 15_000 });
