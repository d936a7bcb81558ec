import {
  FakeNetlink,
  formatMessages,
  MessageWriter,
  messageTypeName,
  type NetlinkFamily,
  readMessages,
} from '../netlink/index.ts';
import { Batch, messageDebugText } from '../netlink/nftables/index.ts';
import {
  addAddress,
  addLink,
  addRoute,
  addRule,
  deleteLink,
  deleteRoute,
  deleteRule,
  setLink,
} from '../netlink/route/index.ts';
import {
  podRoute,
  policyRuleText,
  type RedirectionPlan,
  type Role,
  renderNftables,
  routeText,
  type SidePlan,
} from '../redirection/index.ts';

const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const IFLA_IFNAME = 3;

/** A netlink message as it would be sent. */
export interface PlannedMessage {
  readonly role: Role;
  readonly family: NetlinkFamily;
  /** `RTM_NEWRULE`, `NFTABLES/6` */
  readonly type: string;
  /** What it is for, as `ip` or `nft` would have it. */
  readonly command: string;
  /** From its nlmsghdr on. Indexes of devices and descriptors of namespaces are made up: they are known when it is sent. */
  readonly bytes: Buffer;
}

/** The messages of `apply` or `remove` in a namespace where nothing is there, or everything; without a kernel. */
export function plannedMessages(plan: RedirectionPlan, what: 'apply' | 'remove'): PlannedMessage[] {
  const recorder = new Recorder();
  if (what === 'apply') applied(plan, recorder);
  else removed(plan, recorder);
  return recorder.messages;
}

/** Each message behind a line that says what it is for: a rule as nft --debug=netlink has it, then the bytes in libmnl's form. */
export function messagesText(messages: readonly PlannedMessage[]): string {
  const texts = messages.map(({ role, command, bytes, family }) => {
    const [message] = readMessages(bytes);
    const rule = family === 'netfilter' && message !== undefined ? messageDebugText(message) : undefined;
    return `# ${role}: ${command}\n${rule ?? ''}${formatMessages(bytes, family)}`;
  });
  return texts.join('\n');
}

function applied(plan: RedirectionPlan, recorder: Recorder): void {
  for (const link of plan.links) {
    recorder.route(link.role, `ip link add ${link.name}`, (netlink) => {
      if (link.kind === 'veth')
        addLink(netlink, { kind: 'veth', name: link.name, peer: { name: link.peer.name, namespace: { fd: 0 } } });
      else if (link.kind === 'geneve') {
        const { name, id, remote, port } = link;
        addLink(netlink, { kind: 'geneve', name, id, remote, port });
      }
    });
    recorder.route(link.role, `ip link set ${link.name} up`, (netlink) => setLink(netlink, link.name, { up: true }));
    if (link.kind !== 'veth') continue;
    const { role, name } = link.peer;
    recorder.route(role, `ip link set ${name} up`, (netlink) => setLink(netlink, name, { up: true }));
  }
  for (const side of plan.sides) {
    const { role } = side;
    for (const address of side.addresses) {
      const text = `ip address add ${address.ip}/${address.prefixLength} dev ${address.device}`;
      recorder.route(role, text, (netlink) => addAddress(netlink, address));
    }
    for (const route of side.routes) {
      recorder.route(role, `ip route add ${routeText(route)}`, (netlink) => addRoute(netlink, route));
    }
    for (const rule of side.policyRules) {
      recorder.route(role, `ip rule add ${policyRuleText(rule)}`, (netlink) => addRule(netlink, rule));
    }
    recorder.batch(role, renderNftables(plan, role, []));
    for (const route of podRoutes(plan, side)) {
      recorder.route(role, `ip route add ${routeText(route)}`, (netlink) => addRoute(netlink, route));
    }
  }
}

function removed(plan: RedirectionPlan, recorder: Recorder): void {
  for (const side of plan.sides.toReversed()) {
    const { role } = side;
    for (const rule of side.policyRules) {
      recorder.route(role, `ip rule del ${policyRuleText(rule)}`, (netlink) => deleteRule(netlink, rule));
    }
    const batch = new Batch();
    const tables = new Set(
      renderNftables(plan, role, []).commands.filter((command) => command.startsWith('add table ')),
    );
    for (const command of tables) {
      const [family, name] = command.split(' ').slice(2) as ['ip' | 'ip6', string];
      batch.deleteTable({ family, name });
    }
    recorder.batch(role, batch);
    for (const route of [...side.routes, ...podRoutes(plan, side)]) {
      recorder.route(role, `ip route del ${routeText(route)}`, (netlink) => deleteRoute(netlink, route));
    }
  }
  for (const { kind, role, name } of plan.links.toReversed()) {
    if (kind !== 'existing') recorder.route(role, `ip link del ${name}`, (netlink) => deleteLink(netlink, name));
  }
}

function podRoutes(plan: RedirectionPlan, side: SidePlan) {
  return plan.pods.role === side.role ? plan.pods.list.flatMap((pod) => podRoute(plan, pod) ?? []) : [];
}

class Recorder {
  readonly messages: PlannedMessage[] = [];

  route(role: Role, command: string, send: (netlink: FakeNetlink) => void): void {
    const netlink = new FakeNetlink(({ type }) => (type === RTM_GETLINK ? [anyLink()] : undefined));
    send(netlink);
    for (const { type, bytes } of netlink.requests) {
      if (type === RTM_GETLINK) continue;
      this.messages.push({ role, family: 'route', type: messageTypeName(type, 'route'), command, bytes });
    }
  }

  batch(role: Role, batch: Batch): void {
    const netlink = new FakeNetlink();
    const { commands } = batch;
    batch.commit(netlink);
    for (const { type, bytes, index } of netlink.requests) {
      // The first message of a transaction says only that it begins.
      const command = `nft ${commands[(index ?? 0) - 1] ?? ''}`;
      this.messages.push({ role, family: 'netfilter', type: messageTypeName(type, 'netfilter'), command, bytes });
    }
  }
}

/** What a look-up of a device's index gets for an answer: index 1. */
function anyLink(): { readonly type: number; readonly payload: Buffer } {
  const writer = new MessageWriter().begin(RTM_NEWLINK, 0);
  writer.u8(0).u8(0).u16(0).u32(1).u32(0).u32(0).attrString(IFLA_IFNAME, 'any');
  return { type: RTM_NEWLINK, payload: writer.end().finish().subarray(16) };
}
