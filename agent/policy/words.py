"""What the vocabulary's names mean in words that a car owner knows, in English and Chinese.

Every category, purpose, basis and recipient of the vocabulary has its words in both languages; a
test holds this against the vocabulary, so that no rule can appear in a notice as a bare code.

Pure.
"""

from __future__ import annotations

from typing import Final, Literal

Language = Literal["en", "zh"]

Words = dict[str, tuple[str, str]]  # name: (English, Chinese)

CATEGORIES: Final[Words] = {
    "vehicle.identity": ("identity of the car (VIN, plate)", "车辆身份（车架号、车牌）"),
    "vehicle.state": (
        "how the car moves and is operated (speed, brake, steering, gear, doors)",
        "车辆运行与操作状态（车速、制动、转向、挡位、车门）",
    ),
    "powertrain": ("motor and drive", "电机与驱动系统"),
    "battery": ("battery (charge, voltage, temperature)", "动力电池（电量、电压、温度）"),
    "diag.dtc": ("fault codes", "故障码"),
    "location.point": ("a single position of the car", "车辆的单次位置"),
    "location.track": ("where the car drives", "车辆行踪轨迹"),
    "exterior.image": ("pictures of the surroundings", "车外图像"),
    "exterior.video": ("films of the surroundings", "车外视频"),
    "exterior.pointcloud": ("radar and lidar points of the surroundings", "车外点云数据"),
    "exterior.parked": ("cameras while the car is parked", "驻车状态下的车外摄像"),
    "cabin.image": ("pictures of the cabin", "座舱图像"),
    "cabin.audio": ("sound in the cabin", "座舱音频"),
    "cabin.biometric": ("faces, voices, pulse", "人脸、声纹、脉搏等生物特征"),
    "phone.contacts": ("contacts of a connected phone", "连接手机的通讯录"),
    "phone.calendar": ("calendar of a connected phone", "连接手机的日历"),
    "phone.messages": ("messages of a connected phone", "连接手机的短信与消息"),
    "credentials": ("passwords and keys", "密码与密钥"),
    "traffic.flow": ("flow of traffic", "车流量"),
    "charging.network": ("operation of charging stations", "充电网运行数据"),
    "security.event": ("signs of attacks on the car", "车辆网络攻击迹象"),
    "event.record": ("records around sudden events such as hard braking", "急刹等突发事件记录"),
    "agent.audit": ("what this system itself did", "本系统自身的操作记录"),
    "consent.record": ("consents given and withdrawn", "同意与撤回同意的记录"),
}

PURPOSES: Final[Words] = {
    "regulatory_monitoring": ("monitoring that the law requires", "法规要求的监测"),
    "safety_event": ("clearing up accidents", "查明事故原因"),
    "owner_access": ("your own access to the data of your car", "供您本人查阅车辆数据"),
    "diagnostics_repair": ("finding and repairing faults", "故障诊断与维修"),
    "product_improvement": ("improving the product", "改进产品"),
    "insurance": ("insurance", "保险"),
    "navigation": ("navigation", "导航"),
    "authority_order": ("an order of an authority", "执行主管部门的命令"),
    "security_monitoring": ("recognising attacks", "网络安全监测"),
    "ota": ("updates over the air", "远程升级"),
}

RECIPIENTS: Final[Words] = {
    "region": ("the operator in the region where the car was sold", "车辆销售所在地区的运营方"),
    "owner": ("you alone", "仅您本人"),
    "shared": (
        "you, and the operator in the region where the car was sold",
        "您本人，以及车辆销售所在地区的运营方",
    ),
    "both": (
        "only you and the operator in the region together",
        "只有您本人与所在地区运营方共同才能打开",
    ),
    "driver": ("whoever is driving at the time, alone", "仅当时驾驶车辆的人本人"),
}


def basis_words(basis: str, language: Language) -> str:
    """Return the ground on which something is kept, in words.

    Args:
        basis: "consent", "safety", "law:<reference>" or "order:<reference>".
        language: of the words.
    """
    kind, _, reference = basis.partition(":")
    english, chinese = {
        "consent": ("your consent", "您的同意"),
        "safety": ("safety; no consent is needed", "保障安全，无需另行同意"),
        "law": (f"the law: {reference}", f"法律法规：{reference}"),
        "order": (f"an order: {reference}", f"主管部门命令：{reference}"),
    }[kind]
    return chinese if language == "zh" else english


def word(words: Words, name: str, language: Language) -> str:
    """Return the words for a name of the vocabulary.

    Raises:
        KeyError: the vocabulary has a name without words; a test forbids it.
    """
    return words[name][1 if language == "zh" else 0]


def duration_words(value_ns: int, language: Language) -> str:
    """Return a length of time in whole units: 604800000000000 -> "7 days", "7 天"."""
    for unit_ns, english, chinese in (
        (86_400 * 10**9, "day", "天"),
        (3600 * 10**9, "hour", "小时"),
        (60 * 10**9, "minute", "分钟"),
        (10**9, "second", "秒"),
        (10**6, "millisecond", "毫秒"),
    ):
        if value_ns >= unit_ns and value_ns % unit_ns == 0:
            count = value_ns // unit_ns
            if language == "zh":
                return f"{count} {chinese}"
            return f"{count} {english}" + ("s" if count != 1 else "")
    return f"{value_ns / 1e9:g} " + ("秒" if language == "zh" else "seconds")
