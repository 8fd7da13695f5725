// Every project of the account with its token, API key and API secret (F6), and the projects that are offered to it.
import { Button, Divider, Group, Text } from '@mantine/core';
import { useQuery, useQueryClient, useSuspenseQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { api, done, type Schemas } from '../../api/client';
import { projectsQuery, transfersQuery } from '../../api/queries';
import { Confirmed } from '../../pieces/action';
import { Copyable } from '../../pieces/copy';
import { useProof } from '../../pieces/proof';
import { Empty } from '../../pieces/states';
import { Name, RoleBadge, Section, TextLink, When } from '../../pieces/text';
import { KeyRows, NoKeys } from '../project/Credentials';

export function Projects() {
  const { data: projects } = useSuspenseQuery(projectsQuery);
  const navigate = useNavigate();
  return (
    <>
      <Offers />
      <Group justify="space-between">
        <Text size="sm" c="dimmed">
          Each project has its own token; the token decides where the data goes.
        </Text>
        <Button variant="default" onClick={() => navigate({ to: '/app/projects/new' })}>
          Create project
        </Button>
      </Group>
      {projects.length === 0 && <Empty>You are a member of no project. Create one, or ask its owner for an invitation.</Empty>}
      {projects.map((project) => (
        <ProjectCard key={project.project_id} project={project} />
      ))}
    </>
  );
}

function ProjectCard({ project }: { project: Schemas['OwnProject'] }) {
  return (
    <Section
      title={project.name}
      actions={
        <Group gap="sm" wrap="nowrap">
          {project.archived_at && <Text size="xs" c="dimmed">archived</Text>}
          <RoleBadge role={project.role} />
          <TextLink size="sm" to="/app/projects/$project/settings/$tab" params={{ project: String(project.project_id), tab: 'management' }} aria-label={`Management of ${project.name}`}>
            Management
          </TextLink>
        </Group>
      }
    >
      <dl className="rows">
        <dt>Project ID</dt>
        <dd>
          <code className="value">{project.project_id}</code>
        </dd>
        <dt>Project token</dt>
        <dd>
          <Copyable value={project.token} label={`project token of ${project.name}`} />
        </dd>
      </dl>
      {project.keys.length === 0 && <NoKeys />}
      {project.keys.map((key) => (
        <div key={key.key_id}>
          <Divider my="sm" />
          <dl className="rows">
            <KeyRows project={project} apiKey={key} of={project.keys.length === 1 ? project.name : `${project.name}: ${key.name}`} />
          </dl>
        </div>
      ))}
    </Section>
  );
}

function Offers() {
  const offers = useQuery(transfersQuery);
  const client = useQueryClient();
  const withProof = useProof();
  const accept = async (project: number) => {
    await withProof(() => done(api.POST('/transfers/{project}/accept', { params: { path: { project } } })));
    await client.invalidateQueries();
  };
  const decline = async (project: number) => {
    await done(api.DELETE('/transfers/{project}', { params: { path: { project } } }));
    await client.invalidateQueries({ queryKey: ['transfers'] });
  };
  if (!offers.data?.length) return null;
  return (
    <Section title="Offered to you" about="Whoever accepts owns the project: keys, members, reset.">
      {offers.data.map((offer) => (
        <Group key={offer.project_id} justify="space-between">
          <Text size="sm">
            <Name>{offer.project_name}</Name>, by <Name>{offer.from_email}</Name>, until <When at={offer.expires_at} />
          </Text>
          <Group gap={6}>
            <Confirmed label="Accept" title="Accept the project" about="You become its owner." action={() => accept(offer.project_id)} />
            <Confirmed label="Decline" title="Decline the project" about="It stays with its owner." action={() => decline(offer.project_id)} />
          </Group>
        </Group>
      ))}
    </Section>
  );
}
