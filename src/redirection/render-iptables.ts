import { checkRules } from './check-rules.ts';
import { invalid } from './error.ts';
import {
  addressIn,
  type ChainPlan,
  familiesOf,
  type IpFamily,
  isRuleIn,
  type Match,
  type RedirectionPlan,
  type Role,
  type RulePlan,
  type SetPlan,
  setIn,
  sideOf,
} from './plan.ts';
import { elementsOf } from './render-nftables.ts';

/** How {@link renderIptables} says what has more than one form. */
export interface IptablesOptions {
  /**
   * How a flow keeps its addresses. `accept`, the default and the articles' form, is enough where kube-proxy's and the CNI's rules
   * are of the same backend (legacy or nft) as these. `netmap` maps the address to itself, and holds against both.
   */
  readonly noNat?: 'accept' | 'netmap';
}

/** A side of a plan as text for the tools of iptables. Each is the empty string where there is nothing to say. */
export interface IptablesText {
  /** For `ipset restore`, before the rules: the sets and their members. */
  readonly ipset: string;
  /** For `iptables-restore --noflush`. */
  readonly iptables: string;
  /** For `ip6tables-restore --noflush`. */
  readonly ip6tables: string;
  /** The same three for taking it away again: rules first, then sets. They fail where it is not there. */
  readonly remove: { readonly iptables: string; readonly ip6tables: string; readonly ipset: string };
}

const tableOrder = ['raw', 'mangle', 'nat', 'filter'] as const;
/** The kernel's own limit: `IPSET_MAXNAMELEN`, with its NUL. */
const IPSET_MAXNAMELEN = 32;
/** `XT_EXTENSION_MAXNAMELEN`, with its NUL. */
const XT_EXTENSION_MAXNAMELEN = 29;

/**
 * A side of a plan in iptables' terms. A chain of the plan becomes a chain of that name, which the built-in chain of its hook jumps
 * to, first if its place is `before-others`; a chain that has a built-in's own name adds to that. For nodeMode() the lines are the
 * articles' lines, so rules have no comments, and what is counted is not read back by id. Links, routes and policy rules are not in it.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` where something cannot be said in iptables, naming the rule or the set
 */
export function renderIptables(plan: RedirectionPlan, role: Role, options: IptablesOptions = {}): IptablesText {
  checkRules('renderIptables', plan, role);
  const side = sideOf(plan, role);
  const families = familiesOf(plan);
  const text = (family: IpFamily, removing: boolean) => {
    if (side === undefined || !families.includes(family)) return '';
    const tables = tableOrder.map((table) => {
      const chains = side.chains.filter((chain) => chain.table === table);
      return tableText(table, chains, { family, sets: side.sets, options }, removing);
    });
    return tables.join('');
  };
  const sets = (side?.sets ?? []).filter(({ family }) => families.includes(family));
  for (const { name } of sets) checkName('set', name, IPSET_MAXNAMELEN - 1);
  return {
    ipset: sets.map((set) => setText(plan, role, set)).join(''),
    iptables: text(4, false),
    ip6tables: text(6, false),
    remove: {
      iptables: text(4, true),
      ip6tables: text(6, true),
      ipset: sets.map(({ name }) => `destroy ${name}\n`).join(''),
    },
  };
}

interface Surroundings {
  readonly family: IpFamily;
  readonly sets: readonly SetPlan[];
  readonly options: IptablesOptions;
}

function setText(plan: RedirectionPlan, role: Role, { name, family }: SetPlan): string {
  const lines = [`create ${name} hash:ip family ${family === 4 ? 'inet' : 'inet6'} comment`];
  for (const { key, comment } of elementsOf(plan, role, name)) {
    lines.push(`add ${name} ${key}${comment === undefined ? '' : ` comment "${comment}"`}`);
  }
  return `${lines.join('\n')}\n`;
}

function tableText(
  table: ChainPlan['table'],
  chains: readonly ChainPlan[],
  where: Surroundings,
  removing: boolean,
): string {
  if (chains.length === 0) return '';
  const declared: string[] = [];
  const jumps: string[] = [];
  const rules: string[] = [];
  const gone: string[] = [];
  for (const chain of chains) {
    checkName('chain', chain.name, XT_EXTENSION_MAXNAMELEN - 1);
    const builtIn = chain.hook.toUpperCase();
    const isBuiltIn = chain.name === builtIn;
    if (!isBuiltIn) {
      declared.push(`:${chain.name} - [0:0]`);
      const inFront = !removing && chain.place !== 'beside-others';
      jumps.push(`${removing ? '-D' : inFront ? '-I' : '-A'} ${builtIn} -j ${chain.name}`);
      gone.push(`-X ${chain.name}`);
      if (removing) continue;
    }
    for (const rule of rulesOf(chain)) {
      if (!isRuleIn(where.family, rule, where.sets)) continue;
      rules.push(`${removing ? '-D' : '-A'} ${chain.name} ${ruleSpec(rule, chain, where)}`);
    }
  }
  // A chain that is declared is emptied: so it can be taken away.
  const lines = [`*${table}`, ...declared, ...jumps, ...rules, ...(removing ? gone : []), 'COMMIT'];
  return `${lines.join('\n')}\n`;
}

function rulesOf(chain: ChainPlan): readonly RulePlan[] {
  if (chain.iptablesRules !== undefined) return chain.iptablesRules;
  if (chain.place !== 'after-nat') return chain.rules;
  const field = `${chain.table} ${chain.name}`;
  throw invalid('renderIptables', field, 'iptables has no place after NAT that routes a packet again');
}

/** The rule as `iptables -S` writes it, without `-A` and the chain: plain conditions, then modules, then the target. */
function ruleSpec(rule: RulePlan, chain: ChainPlan, where: Surroundings): string {
  const plain = rule.matches.map((match) => plainText(rule, match, where)).filter((text) => text !== '');
  const modules = rule.matches.map((match) => moduleText(match, where)).filter((text) => text !== '');
  return [...plain, ...modules, `-j ${targetText(rule, chain, where)}`].join(' ');
}

function plainText(rule: RulePlan, match: Match, { family }: Surroundings): string {
  const not = 'not' in match && match.not ? '! ' : '';
  const whole = family === 4 ? '/32' : '/128';
  switch (match.on) {
    case 'in-interface':
      return `${not}-i ${match.name}`;
    case 'out-interface':
      return `${not}-o ${match.name}`;
    case 'source':
      return `${not}-s ${addressIn(family, match)}${whole}`;
    case 'destination':
      return `${not}-d ${addressIn(family, match)}${whole}`;
    case 'protocol':
      return `-p ${match.protocol}`;
    case 'tcp-syn':
      return '-p tcp';
    case 'original-source-set':
    case 'reply-source-set':
      throw invalid('renderIptables', rule.id, 'iptables has no condition on a set for the ends of a connection');
    default:
      return '';
  }
}

function moduleText(match: Match, { family, sets }: Surroundings): string {
  const not = 'not' in match && match.not ? '! ' : '';
  switch (match.on) {
    case 'mark':
    case 'connmark':
      return `-m ${match.on} ${not}--mark ${hex(match.value)}/${hex(match.mask)}`;
    case 'protocol':
      if (match.destinationPort !== undefined) return `-m ${match.protocol} ${not}--dport ${match.destinationPort}`;
      return match.sourcePort === undefined ? '' : `-m ${match.protocol} ${not}--sport ${match.sourcePort}`;
    case 'tcp-syn':
      return '-m tcp --tcp-flags FIN,SYN,RST,ACK SYN';
    case 'source-set':
      return `-m set --match-set ${setIn(family, match, sets)?.name} src`;
    case 'destination-set':
      return `-m set --match-set ${setIn(family, match, sets)?.name} dst`;
    case 'source-local':
      return '-m addrtype --src-type LOCAL';
    case 'own-socket':
      return '-m owner --socket-exists';
    case 'established':
      return '-m conntrack --ctstate RELATED,ESTABLISHED';
    default:
      return '';
  }
}

function targetText(rule: RulePlan, chain: ChainPlan, { family, options }: Surroundings): string {
  const { action } = rule;
  switch (action.do) {
    case 'mark':
      return `MARK --set-xmark ${hex(action.value)}/${hex(action.mask)}`;
    case 'connmark':
      return `CONNMARK --set-xmark ${hex(action.value)}/${hex(action.mask)}`;
    case 'save-mark':
      return `CONNMARK --save-mark --nfmask ${hex(action.mask)} --ctmask ${hex(action.mask)}`;
    case 'restore-mark':
      return 'CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff';
    case 'zone':
      return `CT --zone ${action.zone}`;
    case 'no-nat':
      return options.noNat === 'netmap' ? `NETMAP --to ${family === 4 ? '0.0.0.0/0' : '::/0'}` : 'ACCEPT';
    case 'redirect':
      return `REDIRECT --to-ports ${action.port}`;
    case 'dnat':
      return `DNAT --to-destination ${endpointText(family, addressIn(family, action)!, action.port)}`;
    case 'snat':
      return `SNAT --to-source ${addressIn(family, action)}`;
    case 'tproxy': {
      if (action.otherwise !== 'drop') {
        throw invalid('renderIptables', rule.id, 'TPROXY of iptables drops where nobody listens, and cannot go on');
      }
      const ip = addressIn(family, action);
      const onIp = ip === undefined ? '' : ` --on-ip ${ip}`;
      return `TPROXY --on-port ${action.port}${onIp} --tproxy-mark ${hex(action.mark.value)}/${hex(action.mark.mask)}`;
    }
    case 'return':
    case 'accept':
    case 'drop':
      if (chain.table === 'nat' && action.do === 'drop') {
        throw invalid('renderIptables', rule.id, 'iptables has no DROP in the nat table');
      }
      return action.do.toUpperCase();
  }
}

function endpointText(family: IpFamily, ip: string, port: number): string {
  return family === 4 ? `${ip}:${port}` : `[${ip}]:${port}`;
}

function checkName(what: string, name: string, maxBytes: number): void {
  if (Buffer.byteLength(name) <= maxBytes) return;
  throw invalid('renderIptables', what, `${name} is over ${maxBytes} bytes, which is what iptables and ipset take`);
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}
