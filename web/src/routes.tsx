// Every address of the page. What stands behind the door is loaded when it is first asked for.
import type { QueryClient } from '@tanstack/react-query';
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  notFound,
  Outlet,
  redirect,
  type ErrorComponentProps,
} from '@tanstack/react-router';
import { isSignedOut, sentence } from './api/client';
import { instanceQuery, projectsQuery, sessionQuery } from './api/queries';
import { Broken, Missing, Opening } from './frame/Outcomes';
import { Frame } from './frame/Frame';
import { ownAddress } from './pieces/format';
import { eventsSearch } from './pages/events/search';
import { insightsSearch } from './pages/insights/search';
import { lexiconSearch } from './pages/lexicon/search';
import { usersSearch } from './pages/users/search';

const root = createRootRouteWithContext<{ client: QueryClient }>()({
  component: Outlet,
  notFoundComponent: Missing,
});

/** The way in: to the first account, to the door, or to the projects. */
const home = createRoute({
  getParentRoute: () => root,
  path: '/',
  beforeLoad: async ({ context: { client } }) => {
    const instance = await client.fetchQuery(instanceQuery);
    throw redirect(instance.needs_setup ? { to: '/setup' } : { to: '/app' });
  },
});

const door = (name: 'Setup' | 'SignIn' | 'Invitation' | 'ResetPassword' | 'ConfirmEmail') => lazyRouteComponent(() => import('./pages/door'), name);
const setup = createRoute({ getParentRoute: () => root, path: '/setup', component: door('Setup') });
const signIn = createRoute({
  getParentRoute: () => root,
  path: '/sign-in',
  validateSearch: (search: Record<string, unknown>): { next?: string } => (search.next === undefined ? {} : { next: ownAddress(search.next) }),
  component: door('SignIn'),
});
const invitation = createRoute({ getParentRoute: () => root, path: '/invitation', component: door('Invitation') });
const resetPassword = createRoute({ getParentRoute: () => root, path: '/reset-password', component: door('ResetPassword') });
const confirmEmail = createRoute({ getParentRoute: () => root, path: '/confirm-email', component: door('ConfirmEmail') });

/** Everything for whoever signed in. */
const app = createRoute({
  getParentRoute: () => root,
  path: '/app',
  beforeLoad: async ({ context: { client }, location }) => {
    try {
      await client.fetchQuery({ ...sessionQuery, staleTime: 10_000 });
      await client.ensureQueryData(projectsQuery);
    } catch (error) {
      if (isSignedOut(error)) throw redirect({ to: '/sign-in', search: location.pathname === '/app' ? {} : { next: location.href } });
      throw error;
    }
  },
  component: Frame,
});
const appHome = createRoute({
  getParentRoute: () => app,
  path: '/',
  beforeLoad: async ({ context: { client } }) => {
    const projects = await client.ensureQueryData(projectsQuery);
    const first = projects.find((project) => project.archived_at === null) ?? projects[0];
    if (first) throw redirect({ to: '/app/projects/$project/start', params: { project: String(first.project_id) } });
  },
  component: lazyRouteComponent(() => import('./pages/start/NoProjects'), 'NoProjects'),
});
const newProject = createRoute({
  getParentRoute: () => app,
  path: '/projects/new',
  component: lazyRouteComponent(() => import('./pages/start/NewProject'), 'NewProject'),
});

/** One project that the account is a member of. */
const project = createRoute({
  getParentRoute: () => app,
  path: '/projects/$project',
  beforeLoad: async ({ context: { client }, params }) => {
    const projects = await client.ensureQueryData(projectsQuery);
    const id = Number(params.project);
    if (!projects.some((found) => found.project_id === id)) {
      // It may have been made, or shared, since the list was read.
      const again = await client.fetchQuery({ ...projectsQuery, staleTime: 0 });
      if (!again.some((found) => found.project_id === id)) throw notFound();
    }
  },
  component: Outlet,
  notFoundComponent: Missing,
});
const projectHome = createRoute({
  getParentRoute: () => project,
  path: '/',
  beforeLoad: ({ params }) => {
    throw redirect({ to: '/app/projects/$project/start', params });
  },
});
const start = createRoute({
  getParentRoute: () => project,
  path: '/start',
  validateSearch: (search: Record<string, unknown>): { sdk?: string } => (typeof search.sdk === 'string' ? { sdk: search.sdk } : {}),
  component: lazyRouteComponent(() => import('./pages/start/GetStarted'), 'GetStarted'),
});
export const PROJECT_TABS = ['overview', 'management', 'access-keys', 'members', 'data'] as const;
export type ProjectTab = (typeof PROJECT_TABS)[number];
const settings = createRoute({
  getParentRoute: () => project,
  path: '/settings/$tab',
  beforeLoad: ({ params }) => {
    if (!PROJECT_TABS.includes(params.tab as ProjectTab)) throw notFound();
  },
  component: lazyRouteComponent(() => import('./pages/project/ProjectSettings'), 'ProjectSettings'),
  notFoundComponent: Missing,
});
const resetCredentials = createRoute({
  getParentRoute: () => project,
  path: '/reset-credentials',
  component: lazyRouteComponent(() => import('./pages/project/ResetCredentials'), 'ResetCredentials'),
});
const findIn = (search: Record<string, unknown>): { find?: string } => (typeof search.find === 'string' && search.find ? { find: search.find } : {});
const audit = createRoute({
  getParentRoute: () => project,
  path: '/audit',
  validateSearch: findIn,
  component: lazyRouteComponent(() => import('./pages/project/AuditLog'), 'ProjectAuditLog'),
});
const instanceAudit = createRoute({
  getParentRoute: () => app,
  path: '/instance/audit',
  validateSearch: findIn,
  component: lazyRouteComponent(() => import('./pages/project/AuditLog'), 'InstanceAuditLog'),
});
const support = createRoute({
  getParentRoute: () => project,
  path: '/support',
  component: lazyRouteComponent(() => import('./pages/support/Support'), 'Support'),
});

const users = createRoute({
  getParentRoute: () => project,
  path: '/users',
  validateSearch: usersSearch,
  component: lazyRouteComponent(() => import('./pages/users/Users'), 'Users'),
});
const user = createRoute({
  getParentRoute: () => project,
  path: '/users/profile',
  // No part of the path: a distinct_id may be `..`.
  validateSearch: (search: Record<string, unknown>): { id: string } => ({ id: typeof search.id === 'string' ? search.id : '' }),
  component: lazyRouteComponent(() => import('./pages/users/User'), 'User'),
});

const insights = createRoute({
  getParentRoute: () => project,
  path: '/insights',
  validateSearch: insightsSearch,
  component: lazyRouteComponent(() => import('./pages/insights/Insights'), 'Insights'),
});

const jobs = createRoute({
  getParentRoute: () => project,
  path: '/jobs',
  component: lazyRouteComponent(() => import('./pages/jobs/Jobs'), 'Jobs'),
});

const events = createRoute({
  getParentRoute: () => project,
  path: '/events',
  validateSearch: eventsSearch,
  component: lazyRouteComponent(() => import('./pages/events/Events'), 'Events'),
});
const lexicon = createRoute({
  getParentRoute: () => project,
  path: '/lexicon',
  validateSearch: lexiconSearch,
  component: lazyRouteComponent(() => import('./pages/lexicon/Lexicon'), 'Lexicon'),
});
const unknownTokens = createRoute({
  getParentRoute: () => app,
  path: '/instance/unknown-tokens',
  component: lazyRouteComponent(() => import('./pages/events/UnknownTokens'), 'UnknownTokens'),
});

export const ACCOUNT_TABS = ['general', 'projects', 'security'] as const;
export type AccountTab = (typeof ACCOUNT_TABS)[number];
const account = createRoute({
  getParentRoute: () => app,
  path: '/account/$tab',
  beforeLoad: ({ params }) => {
    if (!ACCOUNT_TABS.includes(params.tab as AccountTab)) throw notFound();
  },
  component: lazyRouteComponent(() => import('./pages/account/AccountInformation'), 'AccountInformation'),
  notFoundComponent: Missing,
});
const inbox = createRoute({
  getParentRoute: () => app,
  path: '/instance/tickets',
  component: lazyRouteComponent(() => import('./pages/support/Inbox'), 'Inbox'),
});
const accounts = createRoute({
  getParentRoute: () => app,
  path: '/instance/accounts',
  component: lazyRouteComponent(() => import('./pages/support/Accounts'), 'Accounts'),
});

const tree = root.addChildren([
  home,
  setup,
  signIn,
  invitation,
  resetPassword,
  confirmEmail,
  app.addChildren([
    appHome,
    newProject,
    project.addChildren([projectHome, start, settings, resetCredentials, audit, support, users, user, insights, jobs, events, lexicon]),
    account,
    inbox,
    accounts,
    instanceAudit,
    unknownTokens,
  ]),
]);

export function createAppRouter(client: QueryClient) {
  return createRouter({
    routeTree: tree,
    context: { client },
    defaultPendingComponent: Opening,
    defaultErrorComponent: ({ error, reset }: ErrorComponentProps) => <Broken text={sentence(error)} retry={reset} />,
    defaultNotFoundComponent: Missing,
    scrollRestoration: true,
  });
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof createAppRouter>;
  }
}
