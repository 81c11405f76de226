"""What the owner's page says, in English and Chinese: texts with places for the facts. Data."""

from __future__ import annotations

from typing import Final

from agent.policy.words import Words

TEXTS: Final[Words] = {
    "title": ("The record of your car", "您的车辆数据报告"),
    "statement": (
        "event record (EDR-like), not a type-approved EDR",
        "事件记录（类似 EDR），并非经型式认证的 EDR",
    ),
    "vehicle": ("car", "车辆"),
    "region": ("region", "地区"),
    "time": ("time", "时段"),
    "zone": ("local time", "本地时间"),
    "made": ("made", "生成时间"),
    "epoch": ("ownership", "所有权期次"),
    "skip": ("Contents", "目录"),
    "to": ("{begin} to {end}", "{begin} 至 {end}"),
    # --- whether it can be trusted
    "verdict": ("Was it altered?", "数据是否被改动？"),
    "intact": ("Nothing was altered", "未被改动"),
    "intact_more": (
        (
            "Every entry is as the car wrote it and where it wrote it, and all that was asked "
            "for is here or explained."
        ),
        "每条记录均与车辆写入时一致，位置未变；所请求的内容全部在此，或已说明缺失原因。",
    ),
    "altered": ("Something was altered", "数据已被改动"),
    "altered_more": (
        "What is named below does not match its own hashes or signatures. Do not rely on it.",
        "下列内容与其哈希值或签名不符，不应作为依据。",
    ),
    "undecided": ("It cannot be decided", "无法判定"),
    "undecided_more": (
        (
            "What is here was not altered as far as can be seen, but something is missing that "
            "would prove it. It is named below."
        ),
        "就现有内容而言未发现改动，但缺少可供证明的部分，详见下文。",
    ),
    "unchecked": ("It was not checked", "尚未核验"),
    "unchecked_more": (
        "This page does not prove anything.",
        "本页面不构成任何证明。",
    ),
    "check_how": (
        (
            "Anybody can check it without this page and without trusting anybody: "
            "`python3 verify.py` in the bundle's folder."
        ),
        "任何人都可自行核验，无需依赖本页面或任何一方：在数据包文件夹中运行 `python3 verify.py`。",
    ),
    # --- overview
    "overview": ("Overview", "概览"),
    "incidents": ("Incidents", "事件"),
    "incidents_none": (
        "No incident was recorded in this time.",
        "该时段内没有事件记录。",
    ),
    "frames": ("raw frames", "原始报文"),
    "samples": ("signal values", "信号数值"),
    "copies": (
        (
            "Each frame and value counts once. {count:,} more are copies: the recorder kept them as"
            " well as a rule. The files of `inland owner open` have both, on lanes of their own."
        ),
        (
            "每条报文和每个数值只计一次。另有 {count:,} 份是副本：记录器与某条规则都保存了它们。"
            "`inland owner open` 写出的文件包含两份，分别位于各自的通道。"
        ),
    ),
    "signals_present": ("signals present", "有数据的信号"),
    "signals_of": ("of {count} named", "共 {count} 个"),
    "camera_triggers": ("camera triggers", "摄像头触发"),
    "lost": ("frames lost", "丢失的报文"),
    "policies": ("Who decided what is kept", "由哪些策略决定保存内容"),
    "policy": ("policy", "策略"),
    "version": ("version", "版本"),
    "in_force": ("in force", "生效时段"),
    "fingerprint": ("SHA-256", "SHA-256"),
    "no_policy": ("none: nothing was kept", "无：不保存任何数据"),
    # --- an incident
    "event_at": ("event", "事件"),
    "trigger": ("condition", "触发条件"),
    "held": ("kept", "保留范围"),
    "held_text": (
        "{before} before and {after} after the event",
        "事件前 {before}、事件后 {after}",
    ),
    "held_none": (
        "nothing but the values at the event",
        "仅保留事件发生时的数值",
    ),
    "incomplete": (
        "not complete: the run ended before all of it was recorded",
        "不完整：记录完成之前系统已停止运行",
    ),
    "not_over": ("not over when it was exported: export again", "导出时尚未结束，请再次导出"),
    "triggers": ("triggers that belong to it", "归入本事件的触发次数"),
    "since": ("time since the event before", "距上一事件"),
    "clock": ("clock", "时钟"),
    "decided_by": ("decided by", "依据策略"),
    "agent": ("recorded by", "记录程序"),
    "entry": ("ledger entry", "账本条目"),
    "snapshot": ("Values at the event", "事件发生时的数值"),
    "signal": ("signal", "信号"),
    "value": ("value", "数值"),
    "age": ("age", "数据时延"),
    "missing": ("not seen", "无数据"),
    "near": ("Around the event", "事件前后"),
    "whole": ("The whole record", "完整记录"),
    "at_event": ("at event", "事件时"),
    "lowest": ("min", "最小"),
    "highest": ("max", "最大"),
    "seconds": ("seconds from the event", "相对事件的时间（秒）"),
    "no_tracks": (
        "No signal that could be drawn was kept around this event.",
        "该事件前后没有可绘制的信号数据。",
    ),
    "no_data": ("not recorded around this event", "该事件前后无记录"),
    "speed": ("Speed", "车速"),
    "brake": ("Brake", "制动"),
    "pedal": ("Brake pedal", "制动踏板"),
    "steering": ("Steering", "转向"),
    "throttle": ("Accelerator", "加速踏板"),
    # --- timeline
    "timeline": ("Cameras and consent", "摄像头与同意"),
    "awake": ("agent running", "系统运行"),
    "gate_open": ("camera trigger, gate open", "摄像头触发：允许"),
    "gate_closed": ("camera trigger, gate closed", "摄像头触发：禁止"),
    "consent": ("consent", "同意"),
    "no_cameras": ("No camera was triggered.", "没有摄像头触发。"),
    "no_consents": ("No consent was in force.", "没有生效中的同意。"),
    "consents": ("Consents", "同意记录"),
    "camera": ("camera", "摄像头"),
    "when": ("when", "时间"),
    "gate": ("gate", "闸门"),
    "open": ("open", "开启"),
    "closed": ("closed", "关闭"),
    "why": ("why", "原因"),
    "count": ("count", "次数"),
    "category": ("category", "类别"),
    "state": ("state", "状态"),
    "until": ("until", "截止"),
    "more": ("{count} more are in the files", "另有 {count} 条，见数据文件"),
    # --- presence
    "presence": ("Presence of every signal", "信号完整性清单"),
    "presence_more": (
        "Every signal that a policy of this time names: whether it is here, and if not, why.",
        "该时段内策略所涉及的每个信号：是否存在；如不存在，原因为何。",
    ),
    "first": ("first", "首次"),
    "last": ("last", "末次"),
    "rate": ("rate", "频率"),
    "gap": ("longest gap", "最长间隔"),
    "seen": ("first and last", "首末时间"),
    "named_by": ("named by", "所属规则"),
    "nobody": ("no rule", "无"),
    # --- to whom
    "sent": ("What was sent, and to whom", "数据发送情况与接收方"),
    "whom": ("who can open it", "可打开者"),
    "lane": ("lane", "通道"),
    "segments": ("segments", "数据段"),
    "bytes": ("size", "大小"),
    "here": ("here", "在此"),
    "removed": ("removed", "已移除"),
    "for_others": ("sealed to others", "密封给他方"),
    "left_out": ("not asked for", "未请求"),
    "absent": ("not here", "不在此"),
    "rest": ("not readable here", "此处不可读"),
    "where": ("where it went", "去向"),
    "to_region": (
        "sent sealed to the region",
        "密封发送至所在地区",
    ),
    "in_car": (
        "stays in the car",
        "留存于车内",
    ),
    "in_car_held": (
        "stays in the car, but for {count} that an event sends to the region",
        "留存于车内；其中 {count} 段因事件发送至所在地区",
    ),
    "cosigned": (
        "The region has co-signed the ledger {log} up to entry {size} at {time}.",
        "所在地区已于 {time} 对账本 {log} 至第 {size} 条共同签名。",
    ),
    "openings": ("Who opened it at the region", "所在地区的开启记录"),
    "openings_none": ("The region says: nobody.", "所在地区声明：无人开启。"),
    "openings_word": (
        "This is the region's word, signed by itself; the bundle does not prove it.",
        "以上为所在地区自行签署的声明，本数据包无法予以证明。",
    ),
    "opened_by": ("who", "开启者"),
    "opened_span": ("of which time", "所涉时段"),
    "opened_request": ("the person with the key {kid}; unopened", "持有密钥 {kid} 的人；未开启"),
    "opened_order": ("{authority} ({officer}), by order", "{authority}（{officer}），依据命令"),
    "opened_region": ("the region itself, {who}", "所在地区，{who}"),
    "log_begin": ("the beginning", "最初"),
    "log_end": ("the end", "最后"),
    "not_cosigned": (
        "No co-signature of the region is here.",
        "此处没有所在地区的共同签名。",
    ),
    "people": ("Who could open it", "接收方变更"),
    "key": ("key", "密钥"),
    # --- losses
    "losses": ("Losses and gaps, explained", "丢失与间断说明"),
    "losses_none": (
        "Nothing was lost, dropped or interrupted in this time.",
        "该时段内没有丢失、移除或中断。",
    ),
    "what": ("what", "事项"),
    "how_much": ("how much", "数量"),
    "from": ("from", "自"),
    "till": ("to", "至"),
    "epochs": ("ownership {before} to {after}", "所有权期次 {before} 至 {after}"),
    "at_most": ("more than the policy allows", "超出策略允许的次数"),
    "problem": ("found on opening", "打开时发现"),
    "foot": (
        "This page is one file and loads nothing. It can be kept, printed and passed on.",
        "本页面为单一文件，不加载任何外部内容，可保存、打印和转交。",
    ),
}

STATES: Final[Words] = {
    "present": ("present", "有数据"),
    "removed": ("removed", "已移除"),
    "sealed to others": ("sealed to others", "密封给他方"),
    "not here": ("not here", "不在此"),
    "not asked for": ("not asked for", "未请求"),
    "not recorded": ("not recorded", "未记录"),
    "no rule names it": ("not recorded: no rule names it", "未记录：没有规则涉及"),
}

REASONS: Final[Words] = {
    "policy not in force": ("policy not in force", "策略未生效"),
    "no consent": ("no consent", "未获同意"),
    "no recipient": ("nobody enrolled who could open it", "没有已登记的接收方"),
    "car asleep": ("car asleep", "车辆休眠"),
    "bus down": ("bus down", "总线中断"),
    "no event": ("no event that would have kept it", "没有触发保存的事件"),
    "nothing came": ("nothing came from the car", "车辆未发出该数据"),
    "only looked at": ("looked at, never kept", "仅用于判断，从不保存"),
}

DROPS: Final[Words] = {
    "unspecified": ("no reason given", "未说明原因"),
    "confirmed": ("the region has it, room was needed", "所在地区已收到，释放空间"),
    "quota": ("room was needed, it was not sent", "空间不足，未曾发送"),
    "expired": ("its time to be kept was over", "保存期限已满"),
    "rotten": ("the disk had altered it", "存储介质损坏"),
    "rolled": ("the recorder has moved on", "滚动记录已更新"),
    "withdrawn": ("its consent was withdrawn", "已撤回同意"),
    "transferred": ("the car has another owner", "车辆已更换车主"),
    "gap": ("the log itself was lost", "账本本身丢失"),
    "lost with its log": ("the log itself was lost", "账本本身丢失"),
}

LOSSES: Final[Words] = {
    "unknown": ("cause not known", "原因不明"),
    "kernel": ("the kernel's buffer ran over", "内核缓冲区溢出"),
    "queue": ("the queue ran over", "队列溢出"),
    "broken": ("they were broken", "数据损坏"),
    "seal": ("they could not be stored", "无法存储"),
    "no_recipient": ("nobody is enrolled who could open them", "没有已登记的接收方"),
    "overrun": ("the bus controller ran over: at least so many", "总线控制器溢出（至少此数）"),
}

EVENTS: Final[Words] = {
    "loss": ("frames or samples lost", "丢失的报文或数值"),
    "drop": ("contents removed by the car", "车辆移除的内容"),
    "clock": ("the clock was set", "时钟被调整"),
    "gap": ("the ledger before it was lost", "此前的账本已丢失"),
    "bus": ("bus", "总线"),
    "boot": ("the agent had not ended in order", "系统此前未正常结束"),
    "refusal": ("turned away", "被拒绝"),
    "incident": ("events counted, not recorded", "仅计数、未记录的事件"),
    "transfer": ("the car was handed over", "车辆已过户"),
    "altered": ("altered", "已被改动"),
    "missing": ("missing", "缺失"),
}

BUSES: Final[Words] = {
    "up": ("up", "恢复"),
    "down": ("down", "中断"),
    "missing": ("missing", "缺失"),
    "bus-off": ("bus off", "离线（bus-off）"),
    "error-storm": ("storm of errors", "错误风暴"),
    "error-storm-over": ("storm of errors over", "错误风暴结束"),
}

CONSENTS: Final[Words] = {
    "never_asked": ("never asked", "从未询问"),
    "granted": ("granted", "已同意"),
    "withdrawn": ("withdrawn", "已撤回"),
    "expired": ("expired", "已到期"),
    "needs_renewal": ("needs renewal", "需重新同意"),
    "reset": ("ended with the drive", "随行程结束"),
    "refused": ("refused", "已拒绝"),
}

CHANGES: Final[Words] = {
    "enrolled": ("enrolled", "已登记"),
    "removed": ("removed", "已移除"),
    "drives": ("drives from here on", "自此驾驶"),
    "nobody_drives": ("nobody drives who is enrolled", "驾驶人未登记"),
    "owner_of_car": ("owner", "车主"),
    "driver_of_car": ("driver", "驾驶人"),
}

GATES: Final[Words] = {
    "parked": ("the car was parked", "车辆驻车"),
    "zone": ("protected zone", "受保护区域"),
    "no_fix": ("no trustworthy position", "位置不可信"),
    "consent": ("no consent", "未获同意"),
    "policy": ("the policy", "策略规定"),
}

LANES: Final[Words] = {
    "incident": ("incident", "事件数据"),
    "event": ("event", "事件记录"),
    "routine": ("routine", "常规"),
    "recorder": ("recorder", "滚动记录"),
}

WHOM: Final[Words] = {
    "region": ("the region", "所在地区"),
    "owner": ("you alone", "仅您本人"),
    "driver": ("the driver alone", "仅驾驶人"),
    "shared": ("you or the region", "您或所在地区"),
    "both": ("you and the region together", "您与所在地区共同"),
    "unknown": ("not known", "未知"),
}

CLOCKS: Final[Words] = {
    "floor": ("not before this; nothing better was known", "不早于此时；无更可靠的时间"),
    "wall": ("the computer's own", "车载计算机时钟"),
    "region": ("signed by the region", "由所在地区签名"),
    "unknown": ("not known", "未知"),
}
