// What was not stored as it was sent: why, how often, and the newest records of each reason.
import { Badge, Group, Stack, Table, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { api, done } from '../../api/client';
import { Confirmed } from '../../pieces/action';
import { figure } from '../../pieces/format';
import { Empty, Loaded } from '../../pieces/states';
import { Name, Section, When } from '../../pieces/text';
import { useProject } from '../project/useProject';
import { byReason } from './reasons';
import { inWords } from './window';

export function Rejections() {
  const { id, isAdmin, refresh } = useProject();
  const rejected = useQuery({
    queryKey: ['project', id, 'rejections'],
    queryFn: () => done(api.GET('/projects/{project}/rejections', { params: { path: { project: id } } })),
    refetchInterval: 10_000,
  });
  const clear = async () => {
    await done(api.DELETE('/projects/{project}/rejections', { params: { path: { project: id } } }));
    await refresh();
  };
  return (
    <Section
      title="The last 30 days"
      about="Clients are told of what is refused only where they ask for it. Here stands what became of it, and what to change at the sender. Days are UTC's."
      actions={
        isAdmin &&
        (rejected.data?.counts.length ?? 0) > 0 && (
          <Confirmed label="Forget them" title="Forget what was rejected" about="Counts and samples are gone; stored events stay as they are." action={clear} />
        )
      }
    >
      <Loaded query={rejected}>
        {(data) =>
          data.counts.length === 0 ? (
            <Empty>Everything was stored as it was sent.</Empty>
          ) : (
            <Stack gap={0} component="ol" className="feed" aria-label="Reasons">
              {byReason(data).map((reason) => (
                <Reason key={reason.reason} {...reason} />
              ))}
            </Stack>
          )
        }
      </Loaded>
    </Section>
  );
}

function Reason({ reason, outcome, help, count, last, days, samples }: ReturnType<typeof byReason>[number]) {
  return (
    <li>
      <details>
        <summary>
          <Group gap="sm" justify="space-between" wrap="nowrap" component="span">
            <Group gap="xs" component="span" miw={0}>
              <Text size="sm" fw={550} span>
                {inWords(reason)}
              </Text>
              <Badge variant="outline" size="sm" radius="sm" tt="none" fw={500} color="gray" c="var(--mantine-color-text)">
                {outcome}
              </Badge>
            </Group>
            <Text size="sm" className="figures whole" span>
              {figure(count)}{' '}
              <Text size="xs" c="dimmed" span>
                <When at={last} ago />
              </Text>
            </Text>
          </Group>
        </summary>
        <Stack gap="xs" pb="sm">
          <Text size="sm">{help}</Text>
          <Text size="xs" c="dimmed" className="figures">
            {days.map((day) => `${day.day}: ${figure(day.count)}`).join(' · ')}
          </Text>
          {samples.length > 0 && (
            <Table aria-label={`Samples of ${inWords(reason)}`} layout="fixed">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th w="9rem">When</Table.Th>
                  <Table.Th w="22%">At fault</Table.Th>
                  <Table.Th>Record</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {samples.map((sample, index) => (
                  <Table.Tr key={`${sample.at}\n${index}`}>
                    <Table.Td>
                      <When at={sample.at} />
                    </Table.Td>
                    <Table.Td>
                      <Name>{sample.field}</Name>
                    </Table.Td>
                    <Table.Td>{sample.record ? <bdi className="value">{sample.record}</bdi> : <Text size="xs" c="dimmed">not kept: a secret stood in it</Text>}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )}
        </Stack>
      </details>
    </li>
  );
}
