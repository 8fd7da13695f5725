// What stands around every page: the project in view, support, the settings gear in the upper right, and whoever signed in.
import { ActionIcon, AppShell, Burger, Button, Group, Menu, Stack, Text, useMantineColorScheme, type MantineColorScheme } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import {
  IconActivity,
  IconArrowsExchange,
  IconChartLine,
  IconChevronDown,
  IconInbox,
  IconLifebuoy,
  IconListSearch,
  IconLogout,
  IconPlus,
  IconQuestionMark,
  IconRocket,
  IconSettings,
  IconUser,
  IconUserCircle,
  IconUsers,
  IconVocabulary,
} from '@tabler/icons-react';
import { useQueryClient, useSuspenseQuery } from '@tanstack/react-query';
import { Link, Outlet, useNavigate, useParams } from '@tanstack/react-router';
import { useEffect, useRef } from 'react';
import { api, done, type Schemas } from '../api/client';
import { projectsQuery, sessionQuery } from '../api/queries';
import { Name } from '../pieces/text';
import { Brand } from './Brand';

type Project = Schemas['OwnProject'];

/** The project in view; on pages of none, the one that was in view before. */
function useProjectInView(projects: Project[]): Project | undefined {
  const params = useParams({ strict: false });
  const last = useRef<number>(undefined);
  const id = params.project === undefined ? last.current : Number(params.project);
  const found = projects.find((project) => project.project_id === id) ?? projects[0];
  useEffect(() => {
    last.current = found?.project_id;
  }, [found?.project_id]);
  return found;
}

export function Frame() {
  const { data: session } = useSuspenseQuery(sessionQuery);
  const { data: projects } = useSuspenseQuery(projectsQuery);
  const [isOpen, { toggle, close }] = useDisclosure(false);
  const project = useProjectInView(projects);
  const isAdmin = project !== undefined && ['admin', 'owner'].includes(project.role);
  const isAnalyst = isAdmin || project?.role === 'analyst';
  const params = project && { project: String(project.project_id) };
  return (
    <AppShell header={{ height: 48 }} navbar={{ width: 208, breakpoint: 'sm', collapsed: { mobile: !isOpen } }} padding={{ base: 'md', sm: 'lg' }} transitionDuration={0}>
      <a className="skip" href="#content">
        Skip to the content
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap" gap="xs">
          <Group gap="sm" wrap="nowrap" miw={0}>
            <Burger opened={isOpen} onClick={toggle} hiddenFrom="sm" size="sm" aria-label="Navigation" aria-expanded={isOpen} />
            <Link to="/app" className="brand" aria-label="Sluice">
              <Brand />
            </Link>
            <ProjectSwitcher projects={projects} project={project} />
          </Group>
          <Group gap={4} wrap="nowrap">
            <SupportButton project={project} />
            <SettingsMenu project={project} isAdmin={isAdmin} />
            <ProfileMenu account={session.account} />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label="Pages">
        <Stack gap={2} onClick={close}>
          {params && (
            <>
              <Link to="/app/projects/$project/start" params={params} className="nav">
                <IconRocket size={16} aria-hidden /> Get started
              </Link>
              <Link to="/app/projects/$project/events" params={params} className="nav">
                <IconActivity size={16} aria-hidden /> Events
              </Link>
              {isAnalyst && (
                <Link to="/app/projects/$project/users" params={params} className="nav">
                  <IconUser size={16} aria-hidden /> Users
                </Link>
              )}
              <Link to="/app/projects/$project/insights" params={params} className="nav">
                <IconChartLine size={16} aria-hidden /> Insights
              </Link>
              {isAnalyst && (
                <Link to="/app/projects/$project/lexicon" params={params} className="nav">
                  <IconVocabulary size={16} aria-hidden /> Lexicon
                </Link>
              )}
              {isAnalyst && (
                <Link to="/app/projects/$project/jobs" params={params} className="nav">
                  <IconArrowsExchange size={16} aria-hidden /> Imports and exports
                </Link>
              )}
              {isAdmin && (
                <Link to="/app/projects/$project/audit" params={params} className="nav">
                  <IconListSearch size={16} aria-hidden /> Audit log
                </Link>
              )}
            </>
          )}
          {session.account.is_operator && (
            <>
              <Text size="xs" c="dimmed" mt="md" mb={2} px="xs">
                Instance
              </Text>
              <Link to="/app/instance/tickets" className="nav">
                <IconInbox size={16} aria-hidden /> Support inbox
              </Link>
              <Link to="/app/instance/accounts" className="nav">
                <IconUsers size={16} aria-hidden /> Accounts
              </Link>
              <Link to="/app/instance/unknown-tokens" className="nav">
                <IconQuestionMark size={16} aria-hidden /> Unknown tokens
              </Link>
              <Link to="/app/instance/audit" className="nav">
                <IconListSearch size={16} aria-hidden /> Audit log of all
              </Link>
            </>
          )}
        </Stack>
      </AppShell.Navbar>
      <AppShell.Main id="content" tabIndex={-1}>
        <div className="frame-main">
          <Outlet />
        </div>
      </AppShell.Main>
    </AppShell>
  );
}

function ProjectSwitcher({ projects, project }: { projects: Project[]; project: Project | undefined }) {
  const navigate = useNavigate();
  return (
    <Menu position="bottom-start" width={260}>
      <Menu.Target>
        <Button
          variant="subtle"
          color="gray"
          c="var(--mantine-color-text)"
          rightSection={<IconChevronDown size={14} aria-hidden />}
          aria-label={project ? `Project: ${project.name}` : 'Project: none'}
          maw={{ base: 140, xs: 260 }}
          px={8}
        >
          <Text size="sm" fw={550} truncate>
            <bdi>{project?.name ?? 'No project'}</bdi>
          </Text>
        </Button>
      </Menu.Target>
      <Menu.Dropdown mah="70vh" style={{ overflowY: 'auto' }}>
        {projects.map((found) => (
          <Menu.Item
            key={found.project_id}
            onClick={() => navigate({ to: '/app/projects/$project/start', params: { project: String(found.project_id) } })}
            rightSection={<Text size="xs" c="dimmed">{found.archived_at ? 'archived' : found.role}</Text>}
            aria-current={found.project_id === project?.project_id || undefined}
          >
            <Name>{found.name}</Name>
          </Menu.Item>
        ))}
        {projects.length > 0 && <Menu.Divider />}
        <Menu.Item leftSection={<IconPlus size={14} aria-hidden />} onClick={() => navigate({ to: '/app/projects/new' })}>
          Create project
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function SupportButton({ project }: { project: Project | undefined }) {
  const navigate = useNavigate();
  return (
    <Button
      variant="subtle"
      color="gray"
      c="var(--mantine-color-text)"
      px={8}
      disabled={!project}
      onClick={() => project && navigate({ to: '/app/projects/$project/support', params: { project: String(project.project_id) } })}
      aria-label="Support"
    >
      <IconLifebuoy size={18} aria-hidden />
      <Text size="sm" ml={6} visibleFrom="xs" span>
        Support
      </Text>
    </Button>
  );
}

function SettingsMenu({ project, isAdmin }: { project: Project | undefined; isAdmin: boolean }) {
  const navigate = useNavigate();
  const params = { project: String(project?.project_id ?? 0) };
  return (
    <Menu position="bottom-end" width={200}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" c="var(--mantine-color-text)" size="lg" aria-label="Settings">
          <IconSettings size={19} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {project && (
          <Menu.Label>
            <Name>{project.name}</Name>
          </Menu.Label>
        )}
        <Menu.Item disabled={!project} onClick={() => navigate({ to: '/app/projects/$project/settings/$tab', params: { ...params, tab: 'overview' } })}>
          Project settings
        </Menu.Item>
        {isAdmin && <Menu.Item onClick={() => navigate({ to: '/app/projects/$project/audit', params })}>Audit log</Menu.Item>}
      </Menu.Dropdown>
    </Menu>
  );
}

const SCHEMES: [MantineColorScheme, string][] = [
  ['auto', 'as the system has it'],
  ['light', 'light'],
  ['dark', 'dark'],
];

function ProfileMenu({ account }: { account: Schemas['Account'] }) {
  const navigate = useNavigate();
  const client = useQueryClient();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const at = SCHEMES.findIndex(([scheme]) => scheme === colorScheme);
  const next = SCHEMES[(at + 1) % SCHEMES.length]!;
  const signOut = async () => {
    await done(api.DELETE('/session')).catch(() => undefined);
    client.clear();
    // Nothing of what was shown stays in the page.
    window.location.assign('/sign-in');
  };
  return (
    <Menu position="bottom-end" width={240}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" c="var(--mantine-color-text)" size="lg" aria-label="Profile">
          <IconUserCircle size={21} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          <Name>{account.email}</Name>
        </Menu.Label>
        <Menu.Item onClick={() => navigate({ to: '/app/account/$tab', params: { tab: 'general' } })}>Account information</Menu.Item>
        <Menu.Item closeMenuOnClick={false} onClick={() => setColorScheme(next[0])}>
          Colours: {SCHEMES[Math.max(at, 0)]![1]}
        </Menu.Item>
        <Menu.Divider />
        <Menu.Item leftSection={<IconLogout size={14} aria-hidden />} onClick={signOut}>
          Sign out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
