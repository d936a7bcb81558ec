import { parseArgs } from 'node:util';
import { AmbientError } from '../errors/index.ts';
import {
  type NodeModeOptions,
  nodeMode,
  type Pod,
  type PodModeOptions,
  podMode,
  type RedirectionPlan,
  type Role,
} from '../redirection/index.ts';
import { UsageError } from './usage-error.ts';

export const RULES_HELP = `Usage: ambient rules <plan|apply|verify|watch|remove> --mode node|pod [options]

  plan     what would be put in force, as text; nothing is read or changed
  apply    put it in force, all of it or nothing; again changes nothing but counters
  verify   read the kernel back and list what differs: missing, changed, not of the plan, somebody else's in front
  watch    put it in force and keep it so until SIGINT or SIGTERM; what is in force then stays
  remove   take it away; what other programs put there stays. From the start nothing new is captured; captured
           connections that are open are waited for, until SIGINT or SIGTERM

Every command needs the options that the plan was made with.

--mode node: redirection on the node
  --host-ip IP, --ztunnel-ip IP, --ztunnel-veth DEVICE   the node, the proxy, the node's end of the proxy's cable
  --host-ip6 IP, --ztunnel-ip6 IP                        redirect IPv6 too
  --ztunnel-device DEVICE                                the proxy's end of its cable (default: eth0)
  --pod IP=DEVICE[=COMMENT]                              an enrolled pod; may be given several times
  --tunnel veth|geneve                                   what istioin and istioout are (default: veth)
  --capture-dns                                          DNS of pods goes to the proxy
  --host-traffic after-nat|local-source                  how the node's own connections are told (default: after-nat)
  --ztunnel-netns NAME                                   the proxy's namespace
  --node-netns NAME                                      the node's (default: the one this runs in)

--mode pod: redirection inside a pod
  --pod-netns NAME                                       the pod's namespace (default: the one this runs in)
  --ipv4-only  --no-dns  --ingress
  --inbound redirect|tproxy                              (default: redirect)
  --virtual-interface DEVICE                             may be given several times
  --probe-ip IP, --probe-ip6 IP                          where the node's probes come from

A namespace is a name under /run/netns or an absolute path, such as /proc/PID/ns/net.

Options of both:
  --name NAME      prefix of the tables
  --format text|nft|iptables|netlink
                   of plan and --dry-run: a table to read (default), what nft -f or iptables-restore takes, or the
                   netlink messages, decoded
  --dry-run        of apply and remove: show text and decoded netlink messages, change nothing
  --drain SECONDS  of remove: how long captured connections are waited for at most, then cut (default: 300; 0: not at all)
  --json           one JSON document on standard output; of watch, one a line for each event
  --help           this text

Exit: 0 done, in force, removed; 1 the kernel differs from the plan or refused it; 2 bad usage.
plan and --dry-run need no privileges, the others root.
`;

export const COMMANDS = ['plan', 'apply', 'verify', 'watch', 'remove'] as const;
export type RulesCommand = (typeof COMMANDS)[number];
export const FORMATS = ['text', 'nft', 'iptables', 'netlink'] as const;
export type RulesFormat = (typeof FORMATS)[number];

/** What `ambient rules` was told. */
export interface RulesOptions {
  readonly command: RulesCommand;
  readonly plan: RedirectionPlan;
  /** By role: a name, a path, or nothing for the namespace of this process. */
  readonly namespaces: Readonly<Record<Role, string | undefined>>;
  readonly format: RulesFormat | undefined;
  readonly dryRun: boolean;
  readonly json: boolean;
  /** How long `remove` waits for captured connections. */
  readonly drainMs: number;
}

type Values = ReturnType<typeof parse>['values'];

/** @returns nothing where help was asked for. @throws {UsageError} */
export function parseRulesOptions(args: string[]): RulesOptions | undefined {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const [command, ...rest] = positionals;
  if (command === undefined || !isOneOf(COMMANDS, command)) {
    const what = command === undefined ? 'say what to do' : `there is no ${JSON.stringify(command)}`;
    throw usage(`${what}: ${COMMANDS.join(', ')}`);
  }
  if (rest.length > 0) throw usage(`${JSON.stringify(rest[0])} is too much`);
  const { format, json, 'dry-run': dryRun } = values;
  if (format !== undefined && !isOneOf(FORMATS, format)) throw usage(`--format is one of ${FORMATS.join(', ')}`);
  if (dryRun && command !== 'apply' && command !== 'remove') throw usage('--dry-run is for apply and remove');
  if (format !== undefined && command !== 'plan' && !dryRun) throw usage('--format is for plan and --dry-run');
  if (values.drain !== undefined && command !== 'remove') throw usage('--drain is for remove');
  const drainMs = drainSeconds(values.drain) * 1000;
  if (values.mode !== 'node' && values.mode !== 'pod') throw usage('--mode is node or pod');
  const plan = planned(() => (values.mode === 'node' ? nodeMode(nodeOptions(values)) : podMode(podOptions(values))));
  const namespaces = values.mode === 'node' ? nodeNamespaces(values) : { pod: values['pod-netns'] };
  if (values.mode === 'node' && command !== 'plan' && !dryRun) required(values, 'ztunnel-netns');
  return { command, plan, namespaces, format, dryRun, json, drainMs };
}

function parse(args: string[]) {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const list = { type: 'string', multiple: true } as const;
  return parseArgs({
    args,
    allowPositionals: true,
    strict: true,
    options: {
      help: { ...flag, short: 'h' },
      mode: text,
      name: text,
      format: text,
      json: flag,
      'dry-run': flag,
      drain: text,
      'host-ip': text,
      'host-ip6': text,
      'ztunnel-ip': text,
      'ztunnel-ip6': text,
      'ztunnel-veth': text,
      'ztunnel-device': text,
      'ztunnel-netns': text,
      'node-netns': text,
      pod: list,
      tunnel: text,
      'capture-dns': flag,
      'host-traffic': text,
      'pod-netns': text,
      'ipv4-only': flag,
      'no-dns': flag,
      ingress: flag,
      inbound: text,
      'virtual-interface': list,
      'probe-ip': text,
      'probe-ip6': text,
    },
  });
}

function nodeOptions(values: Values): NodeModeOptions {
  const { tunnel = 'veth', 'host-traffic': hostTraffic = 'after-nat' } = values;
  if (tunnel !== 'veth' && tunnel !== 'geneve') throw usage('--tunnel is veth or geneve');
  if (hostTraffic !== 'after-nat' && hostTraffic !== 'local-source') {
    throw usage('--host-traffic is after-nat or local-source');
  }
  return {
    hostIp: required(values, 'host-ip'),
    ztunnelIp: required(values, 'ztunnel-ip'),
    ztunnelVeth: required(values, 'ztunnel-veth'),
    tunnel: { kind: tunnel },
    hostTraffic,
    captureDns: values['capture-dns'],
    pods: (values.pod ?? []).map(podOf),
    ...given({
      hostIp6: values['host-ip6'],
      ztunnelIp6: values['ztunnel-ip6'],
      ztunnelDevice: values['ztunnel-device'],
      name: values.name,
    }),
  };
}

function podOptions(values: Values): PodModeOptions {
  const { inbound = 'redirect' } = values;
  if (inbound !== 'redirect' && inbound !== 'tproxy') throw usage('--inbound is redirect or tproxy');
  return {
    inbound,
    ipv6: !values['ipv4-only'],
    captureDns: !values['no-dns'],
    ingress: values.ingress,
    ...given({
      virtualInterfaces: values['virtual-interface'],
      probeIp: values['probe-ip'],
      probeIp6: values['probe-ip6'],
      name: values.name,
    }),
  };
}

function nodeNamespaces(values: Values): RulesOptions['namespaces'] {
  return { node: values['node-netns'], ztunnel: values['ztunnel-netns'] };
}

function podOf(text: string): Pod {
  const [ip = '', veth = '', ...comment] = text.split('=');
  if (ip === '' || veth === '') throw usage(`--pod ${text}: a pod is IP=DEVICE[=COMMENT]`);
  return comment.length === 0 ? { ip, veth } : { ip, veth, comment: comment.join('=') };
}

function drainSeconds(text = '300'): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 86_400) return Number(text);
  throw usage(`--drain ${text}: expected whole seconds from 0 to 86400`);
}

/** What was not given is not there, which is another thing than undefined. */
function given<T extends Record<string, unknown>>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const there = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(there) as { [K in keyof T]?: NonNullable<T[K]> };
}

function required(values: Values, name: 'host-ip' | 'ztunnel-ip' | 'ztunnel-veth' | 'ztunnel-netns'): string {
  const value = values[name];
  if (value === undefined) throw usage(`--mode node needs --${name}`);
  return value;
}

/** What a plan refuses is what somebody typed. */
function planned(make: () => RedirectionPlan): RedirectionPlan {
  try {
    return make();
  } catch (error) {
    if (AmbientError.is(error)) throw usage(error.message);
    throw error;
  }
}

function usage(message: string): UsageError {
  return new UsageError(`ambient rules: ${message}; see \`ambient rules --help\``);
}

function isOneOf<T extends string>(list: readonly T[], value: string): value is T {
  return (list as readonly string[]).includes(value);
}
