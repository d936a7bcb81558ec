import type { ExpressionCodec } from './codec.ts';

// enum nft_counter_attributes
export const NFTA_COUNTER_BYTES = 1;
export const NFTA_COUNTER_PACKETS = 2;

/** `counter`: counts what comes this far in the rule. Zero when it is added; what the kernel counted when it is read back. */
export interface Counter {
  readonly type: 'counter';
  /** Exact up to 2^53. */
  readonly packets: number;
  readonly bytes: number;
}

export const counter: ExpressionCodec<Counter> = {
  name: 'counter',
  encode(expression, writer) {
    // nft leaves a new counter's values out, and so do we: the kernel starts them at zero.
    if (expression.bytes !== 0) writer.attrU64be(NFTA_COUNTER_BYTES, expression.bytes);
    if (expression.packets !== 0) writer.attrU64be(NFTA_COUNTER_PACKETS, expression.packets);
  },
  decode(reader) {
    let packets = 0;
    let bytes = 0;
    while (reader.next()) {
      if (reader.type === NFTA_COUNTER_BYTES) bytes = reader.u64beNumber();
      else if (reader.type === NFTA_COUNTER_PACKETS) packets = reader.u64beNumber();
    }
    return { type: 'counter', packets, bytes };
  },
};
