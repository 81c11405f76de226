"""What a notice says, in English and Chinese: texts with places for the facts. Data."""

from __future__ import annotations

from typing import Final

TEXTS: Final[dict[str, tuple[str, str]]] = {
    "title": (
        "What this car keeps",
        "本车保存哪些数据",
    ),
    "policy": (
        ("Policy {name}, version {version}, for the region {region}. In force until {until}."),
        "策略 {name}，第 {version} 版，适用地区 {region}，有效期至 {until}。",
    ),
    "default": (
        (
            "What is not listed here is not kept. What is kept is sealed before it is "
            "stored: it cannot be read in the car, and only those named below can open it. "
            "It is sent to the region {region} and nowhere else."
        ),
        (
            "未列出的数据一律不保存。数据在写入存储之前即已加密：在车内无法读取，只有下文列明"
            "的接收方才能打开。数据只发送至 {region} 地区，不发往任何其他地方。"
        ),
    ),
    "nothing": (
        "This policy keeps nothing.",
        "本策略不保存任何数据。",
    ),
    "what": (
        "what",
        "类型",
    ),
    "when": (
        "when",
        "场景",
    ),
    "why": (
        "why",
        "目的",
    ),
    "ground": (
        "on what ground",
        "依据",
    ),
    "whom": (
        "who can open it",
        "接收方",
    ),
    "where": (
        "where and how long",
        "地点与期限",
    ),
    "stop": (
        "how to stop it",
        "如何停止",
    ),
    "every_sample": (
        "every value the car reports",
        "车辆上报的每一个数值",
    ),
    "on_change": (
        "each time the value changes",
        "数值每次变化时",
    ),
    "every": (
        "one value every {time}",
        "每 {time} 一个数值",
    ),
    "coarse": (
        "positions no finer than {metres} m",
        "位置精度不高于 {metres} 米",
    ),
    "always": (
        "all the time while the system runs",
        "系统运行期间持续记录",
    ),
    "frames": (
        "raw messages of the car's network: {frames}",
        "车内网络原始报文：{frames}",
    ),
    "window": (
        (
            "a rolling window of the last {time} of driving; older parts are deleted, unless "
            "an event listed here keeps them"
        ),
        "最近 {time} 行驶过程的滚动记录；更早的部分即被删除，除非被下列事件保留",
    ),
    "event": (
        "when this becomes true: {condition}",
        "当以下条件成立时：{condition}",
    ),
    "holds": (
        "keeps what was recorded from {before} before to {after} after",
        "保留事件前 {before} 至事件后 {after} 的记录",
    ),
    "uploads": (
        "and sends it to the region",
        "并发送至所在地区",
    ),
    "camera": (
        (
            "when a camera starts or stops: that it did, and whether it was allowed to. "
            "Never pictures"
        ),
        "摄像头开始或停止工作时：仅记录该事实以及是否被允许，绝不保存图像",
    ),
    "keeps": (
        "in the car up to {time}, and in the region {region}",
        "车内最长 {time}，以及 {region} 地区",
    ),
    "keeps_car": (
        "in the car, up to {time}",
        "仅在车内，最长 {time}",
    ),
    "withdraw": (
        (
            "withdraw your consent at any time: `inland consent withdraw {category}`. It is "
            "off until you agree, you choose until when (at most {days} days){drive}"
        ),
        (
            "您可随时撤回同意：`inland consent withdraw {category}`。在您同意之前不会收集；期"
            "限由您选择（最长 {days} 天）{drive}"
        ),
    ),
    "drive": (
        ", and it ends with each drive",
        "，且每次行程结束即失效",
    ),
    "required": (
        (
            "it cannot be switched off in the car, because its ground is not your consent; "
            "you can object at the contact below"
        ),
        "因其依据并非您的同意，无法在车内关闭；您可通过下列联系方式提出异议",
    ),
    "rights": (
        "Your rights",
        "您的权利",
    ),
    "see": (
        "see",
        "查阅",
    ),
    "see_how": (
        "`inland ledger` shows when something was kept, sent or deleted, and why",
        "`inland ledger` 显示何时保存、发送或删除了数据及其原因",
    ),
    "copy": (
        "copy",
        "复制",
    ),
    "copy_how": (
        "in the car by its owner, or on request from the contact below",
        "由车主在车内导出，或向下列联系方式申请",
    ),
    "delete": (
        "delete",
        "删除",
    ),
    "delete_how": (
        (
            "withdrawing a consent deletes at once what was kept under it and not yet sent; "
            "for what the region already has, ask the contact below: sensitive data is "
            "deleted within 10 working days"
        ),
        (
            "撤回同意后，车内在该同意下保存且尚未发送的数据立即删除；已发送的数据请联系下列联"
            "系方式，敏感个人信息将在十个工作日内删除"
        ),
    ),
    "contact": (
        "contact",
        "联系方式",
    ),
    "no_contact": (
        "the operator of the region {region}; this policy names no other contact",
        "{region} 地区的运营方；本策略未另行注明联系方式",
    ),
}
