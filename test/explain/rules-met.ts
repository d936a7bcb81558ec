import { type Explanation, explainPacket, type Packet, readKernelView } from '../../src/explain/index.ts';
import { type NetworkNamespace, writeSysctl } from '../../src/netns/index.ts';
import { runIn, vethPair, withNamespaces } from '../support/namespaces.ts';

/** Rules of other people's making are known by place and number, not by comment. */
function named(rule: { table: { family: string; name: string }; chain: string; handle: string | bigint }): string {
  return `${rule.table.family} ${rule.table.name} ${rule.chain} ${rule.handle}`;
}

/** The rules that have counted something since the counters were read, sorted. */
export function rulesCounted(namespace: NetworkNamespace, act: () => void): string[] {
  const before = counters(namespace);
  act();
  const after = counters(namespace);
  return [...after]
    .filter(([name, packets]) => packets > (before.get(name) ?? 0))
    .map(([name]) => name)
    .sort();
}

function counters(namespace: NetworkNamespace): Map<string, number> {
  return new Map(
    readKernelView(namespace).rules.flatMap((rule) => {
      const counter = rule.expressions.find((expression) => expression.type === 'counter');
      return counter === undefined ? [] : [[named(rule), counter.packets] as const];
    }),
  );
}

/** The rules that would count, for each way that the packet may go; sorted. */
export function rulesExplained(explanation: Explanation): string[][] {
  return [explanation, ...(explanation.otherwise ?? [])].map(({ steps }) => {
    const met = steps.filter((step) => step.kind === 'rule').filter((step) => step.verdict !== 'break');
    return [...new Set(met.filter(({ counter }) => counter !== undefined).map(named))].sort();
  });
}

/** How the packet ends is asked with rules too, which the kernel counts. */
const ENDS = `table ip akt-ends {
  chain in { type filter hook input priority 400; counter }
  chain out {
    type filter hook postrouting priority 400
    oifname "c0" counter
    oifname "s0" counter
    ip daddr 10.2.0.2 counter
    ip daddr 10.2.0.3 counter
    ip daddr 10.2.0.4 counter
    ip saddr 10.2.0.1 counter
    ip saddr 10.1.0.2 counter
    meta mark & 0x4000 == 0 counter
  }
  chain quiet { type filter hook output priority -450; meta l4proto icmp drop; tcp flags rst drop }
}
`;
/** A namespace that takes everything and answers nothing. */
const SILENT = 'table inet akt-silent {\n  chain in { type filter hook input priority -500; policy drop; }\n}';

/** Where rules are tried: packets go from `client` through `node` to `server`, or are made in `node`. Nobody answers. */
export interface Crossing {
  readonly node: NetworkNamespace;
  readonly client: NetworkNamespace;
  readonly server: NetworkNamespace;
}

export async function withCrossing(body: (crossing: Crossing) => void | Promise<void>): Promise<void> {
  await withNamespaces(['explain-node', 'explain-client', 'explain-server'], async (node, client, server) => {
    // Its own packets would be counted as well.
    for (const one of [node, client, server]) writeSysctl(one, 'net.ipv6.conf.default.disable_ipv6', 1);
    vethPair(
      { namespace: node, device: 'c0', addresses: ['10.1.0.1/24'] },
      { namespace: client, device: 'eth0', addresses: ['10.1.0.2/24'] },
    );
    vethPair(
      { namespace: node, device: 's0', addresses: ['10.2.0.1/24'] },
      { namespace: server, device: 'eth0', addresses: ['10.2.0.2/24', '10.2.0.3/24', '10.2.0.4/24'] },
    );
    runIn(client, 'ip', 'route', 'add', 'default', 'via', '10.1.0.1');
    runIn(server, 'ip', 'route', 'add', 'default', 'via', '10.2.0.1');
    runIn(node, 'ip', 'route', 'add', 'default', 'via', '10.2.0.2');
    writeSysctl(node, 'net.ipv4.ip_forward', 1);
    load(node, ENDS);
    for (const silent of [client, server]) load(silent, SILENT);
    await body({ node, client, server });
  });
}

/** Loads a ruleset by the real tool: text of `nft -f`, or of `iptables-restore`. */
export function load(namespace: NetworkNamespace, text: string, tool = 'nft -f -'): void {
  const input = tool === 'nft -f -' ? text.split('\n').map(withStatementEnd).join('\n') : text;
  runIn(namespace, 'sh', '-c', `${tool} <<'END'\n${input}\nEND\n`);
}

/** nft wants a semicolon before the brace that ends a chain on a line of its rules. */
function withStatementEnd(line: string): string {
  const count = (brace: string) => line.split(brace).length;
  const endsChain = /^ *(chain|map|set) .*\{.*}$/.test(line) || count('}') > count('{');
  return endsChain ? line.replace(/(?<=[^\s;]) }$/, '; }') : line;
}

/** Sends a first packet. A SYN that nobody answers is given up before it is sent again, after a second. */
export function send(from: NetworkNamespace, protocol: 'tcp' | 'udp', to: string, port: number): void {
  const patience = protocol === 'tcp' ? 0.9 : 5;
  runIn(from, 'sh', '-c', `timeout ${patience} bash -c 'echo x 2>/dev/null > /dev/${protocol}/${to}/${port}'; true`);
}

/** A packet and who sends it; made in the node where `from` is not given. */
export interface Flow {
  readonly from?: 'client' | 'server';
  readonly to: string;
  readonly port: number;
  readonly protocol?: 'tcp' | 'udp';
}

/** Sends the flow's first packet; the rules that counted it, and those that were said to count it, way by way. */
export function judged(
  crossing: Crossing,
  flow: Flow,
): { counted: string[]; explained: string[][]; explanation: Explanation } {
  const { from, to, port, protocol = 'udp' } = flow;
  const source =
    from === 'client' ? '10.1.0.2' : from === 'server' ? '10.2.0.2' : to.startsWith('10.1.') ? '10.1.0.1' : '10.2.0.1';
  const packet: Packet = {
    source,
    destination: to,
    destinationPort: port,
    protocol,
    ...(from === undefined ? { user: 0, group: 0 } : { device: from === 'client' ? 'c0' : 's0' }),
    state: 'new',
  };
  const explanation = explainPacket(readKernelView(crossing.node, { packet }), packet);
  const counted = rulesCounted(crossing.node, () => {
    const sender = from === undefined ? crossing.node : crossing[from];
    send(sender, protocol, to, port);
  });
  return { counted, explained: rulesExplained(explanation), explanation };
}
