// Text as others wrote it, instants, and headings with the browser's title.
import { Anchor, Badge, Group, Text, Title } from '@mantine/core';
import type { LinkProps } from '@tanstack/react-router';
import { createLink } from '@tanstack/react-router';
import { useEffect, type ReactNode } from 'react';
import type { Role } from '../api/client';
import { dayOf, instant, since } from './format';

/** What somebody named: shown as text, whatever it holds, and apart from the direction of the text around it. */
export function Name({ children }: { children: string }) {
  return <bdi className="name">{children}</bdi>;
}

/** An instant in the reader's zone; its day alone, or how long ago, where that says more. */
export function When({ at, ago = false, day = false }: { at: string | null | undefined; ago?: boolean; day?: boolean }) {
  if (!at) return <span>never</span>;
  return (
    <time dateTime={at} title={at} className="whole">
      {ago ? since(at, Date.now()) : day ? dayOf(at) : instant(at)}
    </time>
  );
}

export function RoleBadge({ role }: { role: Role }) {
  return (
    <Badge variant="default" size="sm" radius="sm" tt="none" fw={500}>
      {role}
    </Badge>
  );
}

/** The page's heading; the browser's title follows it. */
export function PageTitle({ children, of, actions }: { children: string; of?: string; actions?: ReactNode }) {
  useEffect(() => {
    document.title = [children, of, 'Sluice'].filter(Boolean).join(' · ');
  }, [children, of]);
  return (
    <Group justify="space-between" mb="md" wrap="wrap" gap="xs">
      <Title order={1}>{children}</Title>
      {actions}
    </Group>
  );
}

/** A part of a page with its heading. */
export function Section({ title, about, actions, children }: { title: string; about?: ReactNode; actions?: ReactNode; children: ReactNode }) {
  return (
    <section className="card" aria-label={title}>
      <Group justify="space-between" align="flex-start" gap="xs" mb={about ? 4 : 'sm'}>
        <Title order={2} className="name">
          <bdi>{title}</bdi>
        </Title>
        {actions}
      </Group>
      {about && (
        <Text size="sm" c="dimmed" mb="sm" maw="46rem">
          {about}
        </Text>
      )}
      {children}
    </section>
  );
}

/** A link within the page that looks as links do. */
export const TextLink = createLink(Anchor<'a'>);
export type To = LinkProps['to'];
