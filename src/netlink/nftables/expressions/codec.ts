import type { AttributeReader } from '../../attribute-reader.ts';
import type { MessageWriter } from '../../message-writer.ts';

/**
 * One kind of nf_tables expression: the kernel's name for it, and both directions between its plain object and the attributes
 * inside `NFTA_EXPR_DATA`. Every file of this folder is one of these; learn one and know all.
 */
export interface ExpressionCodec<T> {
  /** `struct nft_expr_type.name`. */
  readonly name: string;
  encode(expression: T, writer: MessageWriter): void;
  /** Attributes that it does not know are passed over, as the kernel's own readers do. */
  decode(reader: AttributeReader): T;
}
