import { checkRules } from './check-rules.ts';
import {
  type Action,
  addressIn,
  type ChainPlan,
  familiesOf,
  type IpFamily,
  isRuleIn,
  type Mark,
  type Match,
  type RedirectionPlan,
  type Role,
  type RulePlan,
  type SetPlan,
  setIn,
  sideOf,
} from './plan.ts';
import {
  baseOf,
  dropComment,
  elementsOf,
  isSourceNat,
  nftablesRuleset,
  ownedTables,
  savedValue,
  tableOf,
} from './render-nftables.ts';

/**
 * A side of a plan as `nft -f` takes it: one transaction with the effect of {@link renderNftables}, for people who want to read it
 * first, or to load it where this library does not run. Links, routes and policy rules are not in it.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` where a rule cannot be said in nftables
 */
export function renderNftText(plan: RedirectionPlan, role: Role): string {
  checkRules('renderNftText', plan, role);
  const lines: string[] = [];
  // Added first, so that taking away what is not there is no error.
  for (const { family, name } of ownedTables(plan))
    lines.push(`table ${family} ${name}`, `delete table ${family} ${name}`);
  const side = sideOf(plan, role);
  if (side === undefined) return `${lines.join('\n')}\n`;
  const { tables, sets } = nftablesRuleset(plan, role);
  for (const family of familiesOf(plan)) {
    for (const table of tables) {
      const chains = side.chains.filter((chain) => {
        const { family: tableFamily, name } = tableOf(plan, family, chain.table);
        return tableFamily === table.family && name === table.name;
      });
      if (chains.length === 0) continue;
      lines.push('', `table ${table.family} ${table.name} {`);
      for (const set of sets) {
        if (set.table.family !== table.family || set.table.name !== table.name) continue;
        lines.push(`\tset ${set.name} {`, `\t\ttype ${set.keyType}`);
        const elements = elementsOf(plan, role, set.name).map(elementText);
        if (elements.length > 0) lines.push(`\t\telements = { ${elements.join(',\n\t\t\t     ')} }`);
        lines.push('\t}');
      }
      for (const chain of chains) lines.push(...chainLines({ chain, family, sets: side.sets }));
      lines.push('}');
    }
  }
  return `${lines.join('\n')}\n`;
}

interface Surroundings {
  readonly chain: ChainPlan;
  readonly family: IpFamily;
  readonly sets: readonly SetPlan[];
}

function elementText({ key, comment }: { readonly key: string; readonly comment?: string }): string {
  return comment === undefined ? key : `${key} comment "${comment}"`;
}

function chainLines(where: Surroundings): string[] {
  const { type, hook, priority, policy } = baseOf(where.chain);
  const lines = [
    `\tchain ${where.chain.name} {`,
    `\t\ttype ${type} hook ${hook} priority ${priority}; policy ${policy};`,
  ];
  for (const rule of where.chain.rules) {
    if (isRuleIn(where.family, rule, where.sets)) lines.push(...ruleLines(rule, where).map((line) => `\t\t${line}`));
  }
  return [...lines, '\t}'];
}

function ruleLines(rule: RulePlan, where: Surroundings): string[] {
  const conditions = [...rule.matches.map((match) => matchText(match, where)), 'counter'].join(' ');
  const lines = [`${conditions} ${actionText(rule, where)} comment "${rule.id}"`];
  if (rule.action.do === 'tproxy' && rule.action.otherwise === 'drop') {
    lines.push(`${conditions} drop comment "${dropComment(rule.id)}"`);
  }
  return lines;
}

function matchText(match: Match, { family, sets }: Surroundings): string {
  const ip = family === 4 ? 'ip' : 'ip6';
  const compare = 'not' in match && match.not ? '!= ' : '';
  switch (match.on) {
    case 'in-interface':
      return `iifname ${compare}"${match.name}"`;
    case 'out-interface':
      return `oifname ${compare}"${match.name}"`;
    case 'mark':
      return maskedText('meta mark', match);
    case 'connmark':
      return maskedText('ct mark', match);
    case 'protocol':
      if (match.destinationPort !== undefined) return `${match.protocol} dport ${compare}${match.destinationPort}`;
      if (match.sourcePort !== undefined) return `${match.protocol} sport ${compare}${match.sourcePort}`;
      return `meta l4proto ${match.protocol}`;
    case 'source':
      return `${ip} saddr ${compare}${addressIn(family, match)}`;
    case 'destination':
      return `${ip} daddr ${compare}${addressIn(family, match)}`;
    case 'source-set':
      return `${ip} saddr @${setIn(family, match, sets)?.name}`;
    case 'destination-set':
      return `${ip} daddr @${setIn(family, match, sets)?.name}`;
    case 'original-source-set':
      return `ct original ${ip} saddr @${setIn(family, match, sets)?.name}`;
    case 'reply-source-set':
      return `ct reply ${ip} saddr @${setIn(family, match, sets)?.name}`;
    case 'tcp-syn':
      return 'tcp flags & (fin | syn | rst | ack) == syn';
    case 'source-local':
      return 'fib saddr type local';
    case 'own-socket':
      return 'meta skuid >= 0';
    case 'established':
      return 'ct state established,related';
  }
}

function actionText(rule: RulePlan, { chain, family }: Surroundings): string {
  const { action } = rule;
  const ip = family === 4 ? 'ip' : 'ip6';
  switch (action.do) {
    case 'mark':
      return writeText('meta mark', action.value, action.mask);
    case 'connmark':
      return writeText('ct mark', action.value, action.mask);
    case 'save-mark':
      return writeText('ct mark', savedValue(rule, action), action.mask);
    case 'restore-mark':
      return 'meta mark set ct mark';
    case 'zone':
      return `ct zone set ${action.zone}`;
    case 'no-nat':
      return isSourceNat(chain) ? `snat to ${ip} saddr` : `dnat to ${ip} daddr`;
    case 'redirect':
      return `redirect to :${action.port}`;
    case 'dnat':
      return `dnat to ${endpointText(family, action)}`;
    case 'snat':
      return `snat to ${addressIn(family, action)}`;
    case 'tproxy':
      return `tproxy to ${endpointText(family, action)} ${writeText('meta mark', action.mark.value, action.mark.mask)} accept`;
    default:
      return action.do;
  }
}

function maskedText(what: string, { value, mask, not }: Mark & { readonly not?: boolean }): string {
  const comparison = not ? '!=' : '==';
  if (mask === 0xffffffff) return `${what} ${comparison} ${hex(value)}`;
  return `${what} and ${hex(mask)} ${comparison} ${hex(value)}`;
}

/** iptables' `--set-xmark value/mask`. */
function writeText(what: string, value: number, mask: number): string {
  const kept = ~mask >>> 0;
  if (kept === 0) return `${what} set ${hex(value)}`;
  // `or` alone says the same where every bit of the mask becomes one.
  return value === mask
    ? `${what} set ${what} or ${hex(value)}`
    : `${what} set ${what} and ${hex(kept)} or ${hex(value)}`;
}

function endpointText(
  family: IpFamily,
  to: Extract<Action, { port: number }> & { readonly ip?: string; readonly ip6?: string },
): string {
  const ip = addressIn(family, to);
  if (ip === undefined) return `:${to.port}`;
  return family === 4 ? `${ip}:${to.port}` : `[${ip}]:${to.port}`;
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}
