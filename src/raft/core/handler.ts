import type { RaftState } from "./state.ts";
import type { Message, MessageKind } from "./types.ts";

export type Handler = (state: RaftState, message: Message) => void;

/** What a role does with each kind of message; a kind that is missing is ignored. */
export type HandlerTable = Partial<Record<MessageKind, Handler>>;
