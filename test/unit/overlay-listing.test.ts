import t from "tap";
import { judgeRules } from "../../src/overlay/core/listing.ts";
import { NO_RULES, type Rules, type RulesByFamily } from "../../src/overlay/core/program.ts";

/** What nft lists is compared with what was put there, not with what it listed before. */

const VIPS = `table ip sw {
	map be {
		type ipv4_addr . mark : ipv4_addr
		elements = { 10.0.1.2 . 0x00000000 : 10.0.1.4,
			     10.0.1.2 . 0x0000000a : 10.0.1.3 }
	}

	map svc {
		type ipv4_addr : verdict
		elements = { 10.0.1.2 : jump n2 }
	}

	set self {
		type ipv4_addr . ipv4_addr
		elements = { 10.0.1.3 . 10.0.1.3 }
	}

	chain pre {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr vmap @svc
	}

	chain n1 {
		meta mark set numgen random mod 1 dnat to ip daddr . meta mark map @be
	}

	chain n2 {
		meta mark set numgen random mod 2 dnat to ip daddr . meta mark map @be
	}
}
`;
const INGRESS = `table ip6 swin {
	map hosts {
		type ether_addr : mark
		elements = { 02:53:00:00:00:02 : 0x00010002 }
	}

	map zones {
		typeof ether saddr : ct zone
		elements = { 02:53:00:00:00:02 : 2 }
	}

	map be {
		type inet_proto . inet_service . mark : ipv6_addr . inet_service
		elements = { tcp . 8080 . 0x00000000 : fd00:0:0:1::3 . 80 }
	}

	map svc {
		type inet_proto . inet_service : verdict
		elements = { tcp . 8080 : jump n1 }
	}

	chain n1 {
		meta mark set numgen random mod 1 dnat ip6 to meta l4proto . th dport . meta mark map @be
	}
}
`;
const VIP = "10.0.1.2";

function vipRules(fields: Partial<Rules> = {}): RulesByFamily {
  return {
    ...NO_RULES,
    ipv4: {
      hosts: new Set(),
      self: new Set(["10.0.1.3"]),
      slots: new Map([[VIP, ["10.0.1.4", "10.0.1.3"]]]),
      chains: new Set([1, 2]),
      ...fields,
    },
  };
}

const text = VIPS.replace("0x0000000a", "0x00000001");
const judge = (listing: string, rules = vipRules()): string | null => {
  const { base } = judgeRules(text, vipRules(), ["ipv4"], null);
  return judgeRules(listing, rules, ["ipv4"], base).wrong;
};

t.test("what was put there is as it should be", async t => {
  t.equal(judge(text), null);
  t.equal(
    judge(
      text.replace(/10\.0\.1\.2 \. 0x00000000.*,\n\s+/, "").replace("jump n2", "jump n1"),
      vipRules({ slots: new Map([[VIP, ["10.0.1.3"]]]) }),
    ),
    "its rules: be lacks 10.0.1.2 . 0 : 10.0.1.3",
  );
});

t.test("damage is named, also before anybody has listed the rules", async t => {
  t.equal(judge(VIPS), "its rules: be lacks 10.0.1.2 . 1 : 10.0.1.3");
  t.match(judge(text.replace("10.0.1.4,", "10.0.9.9,")), /be lacks 10\.0\.1\.2 \. 0 : 10\.0\.1\.4/);
  t.match(judge(text, vipRules({ self: new Set() })), /self has 10\.0\.1\.3 \. 10\.0\.1\.3/);
  t.match(judge(text.replace("10.0.1.2 : jump n2", "10.0.1.2 : jump n1")), /svc lacks/);
  t.match(judge(text.replace("mod 2", "mod 1")), /chain n2 is another/);
  t.match(judge(text.replace(/chain n2 [^}]*\}/, "")), /chain n2 is gone/);
  t.match(judge(text.replace("ip daddr vmap @svc", "")), /chains are not as loaded/);
  t.match(judge("", vipRules()), /chains are not as loaded/);
});

t.test("numbers and addresses may be written in other ways", async t => {
  const rules: RulesByFamily = {
    ...NO_RULES,
    ipv6: {
      hosts: new Set([2]),
      self: new Set(),
      slots: new Map([["tcp . 8080", ["fd00:0:0:1:0:0:0:3 . 80"]]]),
      chains: new Set([1]),
    },
  };
  t.equal(judgeRules(INGRESS, rules, ["ipv6"], null).wrong, null);
  const numbers = INGRESS.replaceAll("tcp . 8080", "6 . 8080");
  t.equal(judgeRules(numbers, rules, ["ipv6"], null).wrong, null, "without /etc/protocols");
  const other = INGRESS.replace("0x00010002", "0x00010003");
  t.match(judgeRules(other, rules, ["ipv6"], null).wrong, /hosts lacks/);
});
