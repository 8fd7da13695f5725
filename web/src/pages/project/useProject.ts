// The project in view, with what whoever signed in may do in it.
import { useQueryClient, useSuspenseQuery } from '@tanstack/react-query';
import { notFound, useParams } from '@tanstack/react-router';
import type { Role, Schemas } from '../../api/client';
import { projectsQuery } from '../../api/queries';

const ROLES: Role[] = ['consumer', 'analyst', 'admin', 'owner'];

/** Whether a role may what another may. */
export function isAtLeast(role: Role, least: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(least);
}

export type ProjectInView = {
  project: Schemas['OwnProject'];
  id: number;
  isAdmin: boolean;
  isOwner: boolean;
  /** Reads again what is shown of the project and in lists of projects. */
  refresh: () => Promise<void>;
};

export function useProject(): ProjectInView {
  const { project: asked } = useParams({ strict: false });
  const { data } = useSuspenseQuery(projectsQuery);
  const client = useQueryClient();
  const id = Number(asked);
  const project = data.find((found) => found.project_id === id);
  if (!project) throw notFound();
  const refresh = async () => {
    await Promise.all([client.invalidateQueries({ queryKey: ['projects'] }), client.invalidateQueries({ queryKey: ['project', id] })]);
  };
  return { project, id, isAdmin: isAtLeast(project.role, 'admin'), isOwner: project.role === 'owner', refresh };
}
