import type { AttributeReader } from '../../attribute-reader.ts';
import type { MessageWriter } from '../../message-writer.ts';
import {
  NF_ACCEPT,
  NF_DROP,
  NFT_BREAK,
  NFT_CONTINUE,
  NFT_GOTO,
  NFT_JUMP,
  NFT_RETURN,
  NFTA_DATA_VERDICT,
  NFTA_VERDICT_CHAIN,
  NFTA_VERDICT_CODE,
} from '../constants.ts';

/** Where a packet goes next: `accept`, `drop`, `return`, `continue`, `break`, or on to a chain of the same table. */
export type Verdict =
  | { readonly kind: 'accept' | 'drop' | 'return' | 'continue' | 'break' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string };

const codes: Readonly<Record<Verdict['kind'], number>> = {
  accept: NF_ACCEPT,
  drop: NF_DROP,
  continue: NFT_CONTINUE,
  break: NFT_BREAK,
  jump: NFT_JUMP,
  goto: NFT_GOTO,
  return: NFT_RETURN,
};
const kinds = new Map(Object.entries(codes).map(([kind, code]) => [code, kind as Verdict['kind']]));

/** Writes `NFTA_DATA_VERDICT { CODE, CHAIN }` into a data attribute that the caller has opened. */
export function writeVerdict(data: MessageWriter, verdict: Verdict): void {
  data.nest(NFTA_DATA_VERDICT, (inner) => {
    inner.attrS32be(NFTA_VERDICT_CODE, codes[verdict.kind]);
    if ('chain' in verdict) inner.attrString(NFTA_VERDICT_CHAIN, verdict.chain);
  });
}

/** Reads what {@link writeVerdict} writes, from the reader inside `NFTA_DATA_VERDICT`. Unknown codes (queue) read as `continue`. */
export function readVerdict(reader: AttributeReader): Verdict {
  let code = NFT_CONTINUE;
  let chain = '';
  while (reader.next()) {
    if (reader.type === NFTA_VERDICT_CODE) code = reader.s32be();
    else if (reader.type === NFTA_VERDICT_CHAIN) chain = reader.string();
  }
  const kind = kinds.get(code) ?? 'continue';
  return kind === 'jump' || kind === 'goto' ? { kind, chain } : { kind };
}
