// A ticket as both sides see it: what was said, its state, and what the old token still brings.
import { Badge, Group, Stack, Text } from '@mantine/core';
import type { ReactNode } from 'react';
import type { Schemas } from '../../api/client';
import { figure, who, type People } from '../../pieces/format';
import { Name, When } from '../../pieces/text';

export function TicketCard({ ticket, people, title, children }: { ticket: Schemas['Ticket']; people: People; title: ReactNode; children?: ReactNode }) {
  const label = `Ticket ${ticket.ticket}`;
  return (
    <section className="card" aria-label={label}>
      <Group justify="space-between" mb="sm">
        <Text fw={600} component="h2" fz="lg">
          {title}
        </Text>
        <Badge variant={ticket.state === 'open' ? 'filled' : 'default'} size="sm" radius="sm" tt="none">
          {ticket.state}
        </Badge>
      </Group>
      <Stack gap="sm">
        {ticket.messages.map((message, at) => (
          <div key={at}>
            <Text size="xs" c="dimmed">
              <Name>{who(message.author, people)}</Name>, <When at={message.at} />
            </Text>
            <Text size="sm" className="said">
              <bdi>{message.text}</bdi>
            </Text>
          </div>
        ))}
        {ticket.decided_at && (
          <Text size="sm" c="dimmed">
            {ticket.state} <When at={ticket.decided_at} /> {ticket.decided_by && <>by <Name>{who(ticket.decided_by, people)}</Name></>}
          </Text>
        )}
        {ticket.old_tokens.map((old) => (
          <Text size="sm" key={old.token}>
            The old token <code className="value">{old.token}</code> takes events until <When at={old.ends_at} />: {figure(old.events)} came by it
            {old.last_at && <>, the last <When at={old.last_at} ago /></>}.
          </Text>
        ))}
        {children}
      </Stack>
    </section>
  );
}
