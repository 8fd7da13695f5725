// What arrives: asked for every two seconds while somebody looks. A stream of single events will take this panel's place.
import { Group, Loader, Table, Text } from '@mantine/core';
import { IconCircleCheck } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { eventNames, topEvents } from '../../api/reads';
import { figure } from '../../pieces/format';
import { Problem } from '../../pieces/action';
import { Name, Section } from '../../pieces/text';
import { useProject } from '../project/useProject';

const ASK_EVERY_MS = 2000;

export function Arriving() {
  const { project, id } = useProject();
  const before = useQuery({ queryKey: ['project', id, 'event-names'], queryFn: () => eventNames(id), staleTime: Infinity });
  const today = useQuery({ queryKey: ['project', id, 'today'], queryFn: () => topEvents(id), refetchInterval: ASK_EVERY_MS });
  const events = today.data?.events ?? [];
  const isFirst = before.data?.length === 0;
  const [first, setFirst] = useState<string>();
  useEffect(() => {
    if (isFirst && events[0]) setFirst((known) => known ?? events[0]!.event);
  }, [isFirst, events]);
  return (
    <Section title="Arriving" about={project.archived_at ? 'The project is archived: it takes no events.' : undefined}>
      {today.isError ? (
        <Problem>What arrives cannot be read: check that the server runs.</Problem>
      ) : events.length === 0 ? (
        <Group gap="sm" role="status" wrap="nowrap">
          <Loader size="xs" type="dots" aria-hidden />
          <Text size="sm">{isFirst ? 'Waiting for the first event. Run one of the examples.' : 'No event arrived today.'}</Text>
        </Group>
      ) : (
        <>
          {first !== undefined && (
            <Group gap={6} role="status" wrap="nowrap" mb="xs">
              <IconCircleCheck size={18} aria-hidden />
              <Text size="sm" fw={600}>
                The first event arrived: <Name>{first}</Name>
              </Text>
            </Group>
          )}
          <Table aria-label="Events today">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Event</Table.Th>
                <Table.Th ta="right">Today</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {events.map((event) => (
                <Table.Tr key={event.event}>
                  <Table.Td>
                    <Name>{event.event}</Name>
                  </Table.Td>
                  <Table.Td ta="right" className="figures">
                    {figure(event.amount)}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </>
      )}
    </Section>
  );
}
