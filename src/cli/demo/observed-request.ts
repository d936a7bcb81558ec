import { randomUUID } from 'node:crypto';
import { type HttpAnswer, HttpConnection } from './http-client.ts';
import type { LinkEvidence } from './link-watch.ts';
import { type Counters, type RuleVisit, visitsBetween } from './observer.ts';
import type { ScenarioContext } from './scenario.ts';
import { MARKER_HEADER } from './scenarios/cast.ts';

/** One request to make and to watch. */
export interface RequestPlan<Open, Records> {
  /** The name of the namespace. */
  readonly from: string;
  readonly host: string;
  readonly port: number;
  /** Looks around while the connection is open, the answer being there. */
  readonly whileOpen: (client: { readonly ip: string; readonly port: number }) => Open;
  /** Finds what the proxies wrote about it; `source` is the client as they have it. */
  readonly findRecords: (source: string) => Promise<Records>;
}

/** What was asked, answered, and seen meanwhile. */
export interface ObservedRequest<Open, Records> {
  /** `10.244.1.10:41234`. */
  readonly source: string;
  readonly answer: HttpAnswer;
  readonly open: Open;
  readonly records: Records;
  /** Readings before and after. */
  readonly before: Counters;
  readonly after: Counters;
  readonly visits: readonly RuleVisit[];
  readonly wire: LinkEvidence;
}

/** Makes one request on a connection of its own, with a marker in it that is looked for on the wire, and reads everything that tells of it. */
export async function observedRequest<Open, Records>(
  { lab, observer, link, decisions, signal }: ScenarioContext,
  plan: RequestPlan<Open, Records>,
): Promise<ObservedRequest<Open, Records>> {
  const { from, host, port, whileOpen, findRecords } = plan;
  const marker = `plaintext-${randomUUID()}`;
  for (const log of Object.values(decisions)) log.skip();
  link.begin(marker);
  const before = observer.counters();
  const connection = await HttpConnection.open(lab.namespace(from), host, port, signal);
  const source = `${connection.localIp}:${connection.localPort}`;
  let answer: HttpAnswer;
  let open: Open;
  try {
    answer = await connection.get(`/get?${marker}`, { [MARKER_HEADER]: marker }, signal);
    open = whileOpen({ ip: connection.localIp, port: connection.localPort });
  } finally {
    connection.close();
  }
  const records = await findRecords(source);
  const after = await observer.settled(signal);
  const wire = link.end();
  return { source, answer, open, records, before, after, visits: visitsBetween(before, after), wire };
}
